#include "worker/recommender/pairs.h"

#include <algorithm>
#include <cmath>

#include "common/base/rng.h"

namespace espalier::worker::recommender {

Pairs DrawPairs(const Interactions& train, std::span<const int32_t> order, int32_t negatives,
                const Step& step) {
  constexpr int kAttempts = 1000;
  Pairs pairs;
  pairs.positives = static_cast<int64_t>(order.size());
  for (const int32_t interaction : order) {
    pairs.users.push_back(static_cast<int32_t>(train.UserOf(interaction)));
    pairs.items.push_back(train.columns()[interaction]);
  }
  for (int64_t n = 0; n < pairs.positives; ++n) {
    base::Rng rng(base::StreamKey(step.seed, "negative",
                                  {static_cast<uint64_t>(step.index), static_cast<uint64_t>(n)}));
    for (int32_t k = 0; k < negatives; ++k) {
      int32_t item = 0;
      for (int attempt = 0; attempt < kAttempts; ++attempt) {
        item = static_cast<int32_t>(rng.Below(static_cast<uint64_t>(train.items())));
        if (!train.Contains(pairs.users[n], item)) break;
      }
      pairs.users.push_back(pairs.users[n]);
      pairs.items.push_back(item);
    }
  }
  return pairs;
}

double PairLoss(const Pairs& pairs, size_t first, std::span<float> scores) {
  const int64_t negatives = static_cast<int64_t>(pairs.users.size()) - pairs.positives;
  double loss = 0;
  for (size_t m = 0; m < scores.size(); ++m) {
    const bool positive = static_cast<int64_t>(first + m) < pairs.positives;
    const double weight = 1.0 / static_cast<double>(positive ? pairs.positives : negatives);
    const double margin = positive ? -scores[m] : scores[m];
    loss += weight * (std::max(margin, 0.0) + std::log1p(std::exp(-std::fabs(margin))));
    const double sigmoid = 1 / (1 + std::exp(-margin));
    scores[m] = static_cast<float>(positive ? -weight * sigmoid : weight * sigmoid);
  }
  return loss;
}

}  // namespace espalier::worker::recommender
