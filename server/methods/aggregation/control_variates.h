// SCAFFOLD's control variates, kept by the coordinator: workers stay without state, and upload
// nothing but their weights.
//
// Option II of the paper, for a participant i that went from the round's model x to y_i in K steps
// of learning rate η, with N participants in all:
//   c_i⁺ = c_i − c + (x − y_i) / (K·η);  c ← c + 1/N · Σ (c_i⁺ − c_i) over the round's
//   participants.
// All control variates begin at 0; those of running statistics stay there. K is what the
// participant says it did: how many minibatches its examples make is known to the worker alone (of
// text an example is a prediction, and a minibatch is of sequences).
//
// Memory:      see ServerState; while a round is trained, as much again for the corrections of its
//              participants, and while it is reduced, for their updates.
// Determinism: participants are taken in the order of their names.
// Threading:   pure functions.
// Source:      Karimireddy et al. 2020, algorithm 1.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"
#include "server/methods/aggregation/server_state.h"
#include "server/reduce/reducer.h"

namespace espalier::server::methods {

// c − c_i, which `participant` adds to each of its gradients; empty when it is 0 everywhere.
std::vector<float> Correction(const ServerState& state, const std::string& participant);

// Takes the round's updates in. `before` is the round's model, `total` is N.
// Errors: FailedPrecondition (UPDATES_MISSING) when `updates` do not fit the model or were made in
// no step.
absl::Status UpdateControls(const v1::TrainTask& task, const tensor::ModelTopology& topology,
                            std::span<const float> before, std::span<const reduce::Update> updates,
                            int64_t total, ServerState& state);

}  // namespace espalier::server::methods
