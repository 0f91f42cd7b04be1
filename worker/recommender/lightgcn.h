// LightGCN (He et al. 2020): embeddings propagated over the graph of interactions.
//
// Graph:       Â = D^-1/2 A D^-1/2 of users and items, without self loops; final embeddings are the
//              mean of layers 0..L. Written out for the two halves, with R = users × items of Â:
//                E_users = (X_u + R·(X_i + Rᵀ·(X_u + R·…)))/(L + 1), and with users and items
//              exchanged for E_items. The graph is symmetric, so gradients take the same way back.
// Cost:        2·L products of R or Rᵀ with dense matrices each way; the last one forward and the
//              first one backward only for rows of the batch. Products run on the hand-written SpMM
//              (worker/engine/kernels) over the embedding dimensions; see README.md for the choice.
// Memory:      the graph in both directions (8 bytes per interaction each) and one float per user
//              or item and dimension, rounded up to 16: not a gradient of the table.
// Batch:       each triple is a user, drawn uniformly from those with items, one of the user's
//              items and an item that is not.
// Loss:        mean softplus(s_negative − s_positive) + l2 · ½ Σ |own embeddings|² / batch.
#pragma once

#include <memory>
#include <vector>

#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

struct Triple {
  int32_t user = 0;
  int32_t positive = 0;
  int32_t negative = 0;
};

// The triples of a step: triple n comes from StreamKey(step.seed, "triple", {step.index, n}). A
// user with all items has a negative that is also a positive.
std::vector<Triple> DrawTriples(const Interactions& train, std::span<const int32_t> active_users,
                                const Step& step);

// Users with at least one item, ascending.
std::vector<int32_t> ActiveUsers(const Interactions& train);

// `spec` has its defaults filled in.
std::unique_ptr<RecommenderModel> MakeLightGcn(const v1::LightGcnModel& spec,
                                               const ModelParts& parts);

}  // namespace espalier::worker::recommender
