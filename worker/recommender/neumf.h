// NeuMF (He et al. 2017): generalised matrix factorisation beside a multilayer perceptron.
//
// Score:       wᵀ·[g_u ∘ g_i ; mlp([m_u ; m_i])] + b with ReLU layers; dropout before each of them.
// Loss:        mean over positives of softplus(−score) + mean over negatives of softplus(score).
// Batch:       positives in an order shuffled anew for every epoch, each with negatives that the
//              user has no interaction with, drawn anew.
// Memory:      one int32 per interaction for the order; 8 bytes per unit and example of a batch.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

// `spec` has its defaults filled in. Errors: those of the engine's layers.
absl::StatusOr<std::unique_ptr<RecommenderModel>> MakeNeuMf(const v1::NeuMfModel& spec,
                                                            const ModelParts& parts);

}  // namespace espalier::worker::recommender
