// ServerState: what the coordinator keeps beside the model from round to round, so that workers
// need not: the state of the server's optimizer, SCAFFOLD's control variates, and what rounding
// left out of the model that was sent.
//
// Shapes:      every set has one number for each stored weight of the present model, in its order.
// Memory:      4 bytes per stored weight and set: 1 set with server momentum, 2 with Adam and Yogi,
//              1 + the participants seen so far with control variates, 1 with a compact wire.down.
// Ownership:   sets are immutable and shared, so that copying a state copies no numbers.
// Threading:   pure functions. Determinism: exact.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/tensor/model.h"
#include "server/methods/state_bytes.h"

namespace espalier::server::methods {

// Null: all zero.
using NumberSet = std::shared_ptr<const std::vector<float>>;

struct ServerState {
  NumberSet momentum;                         // of the server's optimizer: v, or Adam's m
  NumberSet second_moment;                    // Adam's and Yogi's v; 0 at a weight that is new
  NumberSet control;                          // SCAFFOLD's c
  std::map<std::string, NumberSet> controls;  // c_i by participant
  NumberSet unsent;                           // of the weights, by job.wire.down
};

// For a saved program state.
void PutServerState(const ServerState& state, StateWriter& writer);
// Null unless every set has `stored` numbers (or none).
std::unique_ptr<ServerState> GetServerState(StateReader& reader, size_t stored);

}  // namespace espalier::server::methods
