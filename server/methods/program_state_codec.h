// ProgramState as bytes, and back: what a durable store writes.
//
// Form:      "ESPSTATE", version (uint32), then the fields, little-endian; index structures as CSR.
// Memory:    Decode() allocates no more than the bytes it is given account for.
// Errors:    Decode() returns DataLoss with STATE_CORRUPT for anything that Encode() did not make
//            from a model of this layout, FailedPrecondition with STATE_VERSION for another
//            version.
// Threading: pure functions. Determinism: a decoded state continues with the same bits.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/methods/program.h"

namespace espalier::server::methods {

std::string EncodeProgramState(const ProgramState& state);

absl::StatusOr<ProgramState> DecodeProgramState(std::string_view bytes,
                                                std::shared_ptr<const tensor::ModelLayout> layout);

}  // namespace espalier::server::methods
