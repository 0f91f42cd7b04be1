#include "common/wire/model_spec/model_spec.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/tensor/model_layout.h"
#include "common/tensor/optimizer_slots.h"
#include "common/wire/model_spec/families/model_family.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/named_models.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/model_spec/train_additions.h"

namespace espalier::wire {
namespace {

// Collects the tensors of layers while shapes flow through them.
class TensorList {
 public:
  absl::StatusOr<FeatureShape> AddLayers(const Layers& layers, const std::string& path,
                                         FeatureShape shape) {
    for (int i = 0; i < layers.size(); ++i) {
      ESPALIER_ASSIGN_OR_RETURN(shape, AddLayer(layers[i], fmt::format("{}.{}", path, i), shape));
    }
    return shape;
  }

  std::vector<ModelTensor> Take() { return std::move(tensors_); }

 private:
  absl::StatusOr<FeatureShape> AddLayer(const v1::Layer& layer, const std::string& name,
                                        const FeatureShape& input) {
    const auto kind = KindOf(layer);
    if (!kind.ok()) return base::Annotate(kind.status(), name);
    for (const Branch& branch : (*kind)->Branches(layer)) {
      ESPALIER_RETURN_IF_ERROR(
          AddLayers(*branch.layers, fmt::format("{}.{}", name, branch.field), input).status());
    }
    const auto output = (*kind)->OutputShape(layer, input);
    if (!output.ok()) return base::Annotate(output.status(), name);
    for (LayerTensor& tensor : (*kind)->Tensors(layer, input, *output)) {
      ESPALIER_RETURN_IF_ERROR(Add(name, std::move(tensor)));
    }
    return output;
  }

  absl::Status Add(const std::string& layer, LayerTensor tensor) {
    ESPALIER_ASSIGN_OR_RETURN(
        tensor::TensorSpec spec,
        tensor::CheckedTensor(fmt::format("{}.{}", layer, tensor.field), std::move(tensor.shape)));
    spec.sparsifiable = tensor.sparsifiable;
    spec.buffer =
        tensor.role == TensorRole::kRunningMean || tensor.role == TensorRole::kRunningVariance;
    tensors_.push_back({.spec = std::move(spec),
                        .role = tensor.role,
                        .initializer = tensor.initializer,
                        .positions = tensor.positions,
                        .transformed = tensor.transformed,
                        .gain = tensor.gain});
    return absl::OkStatus();
  }

  std::vector<ModelTensor> tensors_;
};

}  // namespace

absl::StatusOr<std::vector<ModelTensor>> TensorsOf(const v1::ModelSpec& spec) {
  return FamilyOf(spec).Tensors(spec);
}

absl::StatusOr<std::vector<ModelTensor>> LayerTensors(const v1::ModelSpec& spec) {
  const v1::ModelSpec model = ExplicitModel(spec);
  if (model.layers().empty()) {
    return base::InvalidArgument("NO_LAYERS", "a model needs at least one layer, found none");
  }
  ESPALIER_RETURN_IF_ERROR(CheckInput(InputShape(model)));
  TensorList list;
  const absl::StatusOr<FeatureShape> output =
      list.AddLayers(model.layers(), "layers", InputShape(model));
  if (!output.ok()) return output.status();
  return list.Take();
}

absl::StatusOr<std::shared_ptr<const tensor::ModelLayout>> LayoutOf(const v1::ModelSpec& spec) {
  ESPALIER_ASSIGN_OR_RETURN(std::vector<ModelTensor> tensors, TensorsOf(spec));
  tensor::ModelLayout layout;
  for (ModelTensor& tensor : tensors) layout.push_back(std::move(tensor.spec));
  return std::make_shared<const tensor::ModelLayout>(std::move(layout));
}

int OptimizerSlots(const v1::Optimizer& optimizer) {
  return tensor::OptimizerSlots(optimizer.kind() == v1::Optimizer::KIND_ADAM, optimizer.momentum());
}

int CarriedSlots(const v1::Task& task) {
  const v1::Optimizer& optimizer = task.train().training().optimizer();
  return optimizer.across_rounds() == v1::Optimizer::ACROSS_ROUNDS_AVERAGE
             ? OptimizerSlots(optimizer)
             : 0;
}

int ValuesPerWeight(const v1::Task& task) {
  return 1 + CarriedSlots(task) +
         (AdditionOf(task.train(), v1::TrainAddition::kGrowth).growth().active() ? 1 : 0);
}

int64_t BufferValues(const tensor::ModelTopology& topology) {
  int64_t values = 0;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (topology.layout()[i].buffer) values += topology.stored(i);
  }
  return values;
}

}  // namespace espalier::wire
