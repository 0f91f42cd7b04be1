// The network that trains a transformer: the layers of worker/engine that a TransformerConfig
// describes, in the order of the tensors of wire::TransformerTensors().
//
// Threading: a pure function.
#pragma once

#include <cstdint>

#include "common/language/architecture/transformer_config.h"
#include "worker/engine/spec.h"

namespace espalier::worker::language {

// On sequences of `context` tokens, of which learned positions need at most config.context
// (engine::Network::Create() refuses more).
engine::NetworkSpec NetworkSpecOf(const ::espalier::language::TransformerConfig& config,
                                  int64_t context);

}  // namespace espalier::worker::language
