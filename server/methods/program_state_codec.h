// ProgramState as bytes, and back: what a durable store writes.
//
// Form:      "ESPSTATE", version (uint32), then the fields, little-endian; index structures as CSR,
//            parts of language models, and long arrays if they are to be in parts, by their digests.
// Memory:    Decode...() allocates no more than the bytes it is given account for.
// Errors:    Decode...() returns DataLoss with STATE_CORRUPT for anything that was not made
//            from a model of this layout, FailedPrecondition with STATE_VERSION for another
//            version; those of PartStore::Find() for parts that are not there any more.
// Threading: pure functions. Determinism: a decoded state continues with the same bits.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "server/methods/program.h"
#include "server/pretrained/part_store.h"

namespace espalier::server::methods {

// A state as bytes, and the parts that these name: the bytes can be read as long as somebody holds
// them, or their files stay.
struct SavedState {
  std::string bytes;
  std::vector<pretrained::Part> parts;
};

// Long arrays go into `parts`; where that is null, everything is in the bytes. Errors: those of
// PartStore::Put().
absl::StatusOr<SavedState> SaveProgramState(const ProgramState& state,
                                            pretrained::PartStore* parts);
// Everything in the bytes, except parts of language models, which are named.
std::string EncodeProgramState(const ProgramState& state);

// `layout` is that of the job's model; `parts` may be null for states whose bytes name none. `used`,
// if any, gets those that they name.
absl::StatusOr<ProgramState> DecodeProgramState(std::string_view bytes,
                                                std::shared_ptr<const tensor::ModelLayout> layout,
                                                const pretrained::PartStore* parts = nullptr,
                                                std::vector<pretrained::Part>* used = nullptr);

}  // namespace espalier::server::methods
