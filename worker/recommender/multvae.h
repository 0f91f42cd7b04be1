// MultVAE (Liang et al. 2018): a variational autoencoder of users' histories.
//
// Forward:     x = a user's items, L2-normalised, with dropout; h = tanh(Σ x_i · row i + b);
//              (μ, log σ²) = W h + b; z = μ + σ ∘ ε (ranking: z = μ); h' = tanh(W z + b);
//              scores = W h' + b.
// Loss:        −Σ over the user's items of log softmax(scores) + weight · KL(N(μ, σ²) ‖ N(0, 1)),
//              mean over users; the weight grows linearly over anneal_steps.
// Cost:        the sparse input is multiplied with the rows of its items only, and only these have
//              gradients; other products run on the engine's layers.
// Batch:       users with items in an order shuffled anew for every epoch.
// Memory:      4 bytes per item for each user of a batch, twice, and a few times 4 bytes per hidden
//              unit and latent variable; the gradient of one sparse matrix.
// Determinism: the same bits for any number of threads.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

// What is random about one user in a step.
struct VaeDraw {
  std::vector<float> inputs;  // of the user's items, normalised, after dropout
  std::vector<float> noise;   // ε, one for each latent variable
};

// The draw for the user at place `n` of a step's batch, who has `items` items: from
// StreamKey(step.seed, "multvae", {step.index, n}), first the dropout, then the noise.
VaeDraw DrawVae(const v1::MultVaeModel& spec, const Step& step, int64_t n, int64_t items);

// Factor of the divergence in a step: min(kl_weight, index / anneal_steps), as in the code of Liang
// et al.; kl_weight from the first step on where anneal_steps is 0.
double KlWeight(const v1::MultVaeModel& spec, const Step& step);

// `spec` has its defaults filled in. Errors: those of the engine's layers.
absl::StatusOr<std::unique_ptr<RecommenderModel>> MakeMultVae(const v1::MultVaeModel& spec,
                                                              const ModelParts& parts);

}  // namespace espalier::worker::recommender
