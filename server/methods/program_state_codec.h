// ProgramState as bytes, and back: what a durable store writes.
//
// Form:      "ESPSTATE", version (uint32), then the fields, little-endian; index structures as CSR,
//            parts of language models by their digests.
// Memory:    Decode() allocates no more than the bytes it is given account for.
// Errors:    Decode() returns DataLoss with STATE_CORRUPT for anything that Encode() did not make
//            from a model of this layout, FailedPrecondition with STATE_VERSION for another
//            version; those of PartStore::Find() for parts that are not there any more.
// Threading: pure functions. Determinism: a decoded state continues with the same bits.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "server/methods/program.h"
#include "server/pretrained/part_store.h"

namespace espalier::server::methods {

std::string EncodeProgramState(const ProgramState& state);

// `layout` is that of the model when the state was encoded; `parts` may be null for jobs without
// a trained language model.
absl::StatusOr<ProgramState> DecodeProgramState(std::string_view bytes,
                                                std::shared_ptr<const tensor::ModelLayout> layout,
                                                const pretrained::PartStore* parts = nullptr);

}  // namespace espalier::server::methods
