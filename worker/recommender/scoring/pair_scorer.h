// A scorer of models that compute the scores of pairs of a user and an item.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

// Writes the scores of pairs (users[n], items[n]); called from one thread at a time.
using ScorePairs = std::function<void(std::span<const int32_t> users,
                                      std::span<const int32_t> items, float* scores)>;

// `make` gives each clone its own function, which is asked for at most `max_pairs` at a time.
std::unique_ptr<Scorer> MakePairScorer(int64_t max_pairs, std::function<ScorePairs()> make);

}  // namespace espalier::worker::recommender
