// The tensors of a network, from its description in the API.
//
// Determinism: equal specs give equal layouts on every machine.
// Threading:   pure functions.
// Errors:      InvalidArgument for a layer of unknown kind (UNKNOWN_LAYER), layers that do not fit
//              each other (LAYER_SHAPE, see shapes.h), none at all (NO_LAYERS), and dimensions
//              outside what tensor::CheckedTensor() allows (SHAPE_OUT_OF_RANGE).
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/model.pb.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::wire {

// What a tensor does in its layer, from which its first values follow.
enum class TensorRole { kWeight, kBias, kScale, kShift, kRunningMean, kRunningVariance };

struct ModelTensor {
  tensor::TensorSpec spec;
  TensorRole role = TensorRole::kWeight;
  v1::Initializer initializer = v1::INITIALIZER_UNSPECIFIED;  // of a kWeight
  // Of a kWeight: outputs of one example (of a transformer: of one token) that each weight has a
  // part in; 0 where rows are looked up instead of multiplied.
  int64_t positions = 0;
  bool looked_up = false;    // multiplied by a row for each item that the example has
  bool transformed = false;  // multiplied in another form than the stored one, of equal size
  double deviation = 0;      // of a kWeight's first values, where not 0: instead of an initializer
  double gain = 1;           // of a kScale: its first values
  bool user_rows = false;    // has a row for each user of a recommender
};

// In layout order. Names: layers.<i>.weight and .bias, of a standardised convolution .scale between
// them, of a batch norm also .running_mean and .running_var; within a residual layer
// layers.<i>.body.<j>.… and layers.<i>.shortcut.<j>.… Of a recommender see recommender_layout.h.
// A language model in parts has none of its own (families/transformer.cc).
absl::StatusOr<std::vector<ModelTensor>> TensorsOf(const v1::ModelSpec& spec);

// Those of a model of layers or of a name.
absl::StatusOr<std::vector<ModelTensor>> LayerTensors(const v1::ModelSpec& spec);

absl::StatusOr<std::shared_ptr<const tensor::ModelLayout>> LayoutOf(const v1::ModelSpec& spec);

// Numbers that this optimizer keeps for each value.
int OptimizerSlots(const v1::Optimizer& optimizer);

// Of those, the ones that cross rounds: for each weight they go to a participant of `task` with the
// model and come back with its result.
int CarriedSlots(const v1::Task& task);

// Floats that the result of `task` carries for each stored weight: its value, and in training whose
// optimizer state crosses rounds one more for momentum, or two for Adam's moments; then its
// gradient where the task asks for it.
int ValuesPerWeight(const v1::Task& task);

// Whether a model has running statistics, and how many values they are.
int64_t BufferValues(const tensor::ModelTopology& topology);

}  // namespace espalier::wire
