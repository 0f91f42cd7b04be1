// DenseSource: the weights of a model as if it were dense, one tensor after the other.
//
// Memory:      a block of at most 1 MiB at a time; of a language model, and of a sparse tensor, one
//              tensor. The model is nowhere as a whole.
// Threading:   may be used from several threads. Determinism: equal sources give equal values.
// Errors:      of a trained model: those of ModelLibrary and same_network.h, CHECKPOINT_CORRUPT,
//              and those of language::CheckpointReader.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "common/tensor/topology.h"
#include "espalier/v1/model.pb.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {

class DenseSource {
 public:
  virtual ~DenseSource() = default;
  // Calls `sink` with consecutive pieces of tensor `tensor` of the model's layout, row-major.
  using Sink = std::function<void(std::span<const float>)>;
  virtual absl::Status Read(size_t tensor, const Sink& sink) const = 0;
  // Which positions of the tensor are stored; null: all of them. Others read as 0.
  virtual absl::StatusOr<std::shared_ptr<const tensor::Topology>> Structure(size_t tensor) const {
    return nullptr;
  }
  // The most that those may be, without reading the tensor.
  virtual absl::StatusOr<int64_t> Stored(size_t tensor) const = 0;
  // Files that go with the model, such as a tokenizer, as parts; null when there are none.
  virtual absl::StatusOr<std::shared_ptr<const pretrained::Companions>> Companions(
      pretrained::PartStore&) const {
    return nullptr;
  }
};

// Whether a trained model that stores only a part of some tensor will do. kHeader: neither that nor
// the weights are looked at, for Stored() alone.
enum class TrainedForm { kDense, kAny, kHeader };

// That of model.pretrained, of which every byte has been verified; the random initial model where
// the spec names none. `library` may be null then. `spec` has its defaults filled in.
absl::StatusOr<std::unique_ptr<DenseSource>> OpenDenseSource(
    const v1::ModelSpec& spec, uint64_t seed, const pretrained::ModelLibrary* library,
    TrainedForm form = TrainedForm::kDense);

}  // namespace espalier::server::methods
