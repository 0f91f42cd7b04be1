// DenseSource: the weights of a dense model, one tensor after the other.
//
// Memory:      a block of at most 1 MiB at a time; the model is nowhere as a whole.
// Threading:   may be used from several threads. Determinism: equal sources give equal values.
// Errors:      of a checkpoint: those of ModelLibrary::OpenNetwork() and CheckDenseNetwork(),
//              CHECKPOINT_CORRUPT.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "espalier/v1/model.pb.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {

class DenseSource {
 public:
  virtual ~DenseSource() = default;
  // Calls `sink` with consecutive pieces of tensor `tensor` of the model's layout, row-major.
  using Sink = std::function<void(std::span<const float>)>;
  virtual absl::Status Read(size_t tensor, const Sink& sink) const = 0;
};

// That of model.pretrained, of which every byte has been verified; the random initial model where
// the spec names none. `library` may be null then. `spec` has its defaults filled in.
absl::StatusOr<std::unique_ptr<DenseSource>> OpenDenseSource(
    const v1::ModelSpec& spec, uint64_t seed, const pretrained::ModelLibrary* library);

}  // namespace espalier::server::methods
