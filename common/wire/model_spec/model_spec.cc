#include "common/wire/model_spec/model_spec.h"

#include <fmt/core.h>

#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/tensor/model_layout.h"
#include "common/tensor/optimizer_slots.h"
#include "common/wire/model_spec/families/model_family.h"
#include "common/wire/model_spec/named_models.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/model_spec/train_additions.h"

namespace espalier::wire {
namespace {

// √(2 / (1 − 1/π)): makes up for the variance that a ReLU takes (Brock et al., ICLR 2021).
constexpr double kReluGain = 1.7128585504496627;

using Layers = google::protobuf::RepeatedPtrField<v1::Layer>;

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
    if (layer.has_residual()) return AddResidual(layer.residual(), name, input);
    absl::StatusOr<FeatureShape> output = OutputShape(layer, input);
    if (!output.ok()) return base::Annotate(output.status(), name);
    if (layer.has_linear()) {
      const v1::LinearLayer& linear = layer.linear();
      ESPALIER_RETURN_IF_ERROR(AddWeight(name, {linear.units(), input.features()}, linear.dense(),
                                         linear.initializer(), 1));
      ESPALIER_RETURN_IF_ERROR(AddBias(name, linear.units(), linear.no_bias()));
    } else if (layer.has_conv2d()) {
      const v1::Conv2dLayer& conv = layer.conv2d();
      const int64_t kernel = WindowOf(conv).kernel;
      ESPALIER_RETURN_IF_ERROR(AddWeight(name, {conv.channels(), input.channels, kernel, kernel},
                                         conv.dense(), conv.initializer(), output->positions()));
      if (conv.standardize()) {
        ESPALIER_RETURN_IF_ERROR(AddVector(name + ".scale", conv.channels(), TensorRole::kScale));
        if (conv.activation() == v1::ACTIVATION_RELU) tensors_.back().gain = kReluGain;
      }
      ESPALIER_RETURN_IF_ERROR(AddBias(name, conv.channels(), conv.no_bias()));
    } else if (layer.has_batch_norm()) {
      for (const auto& [field, role] : {std::pair{"weight", TensorRole::kScale},
                                        {"bias", TensorRole::kShift},
                                        {"running_mean", TensorRole::kRunningMean},
                                        {"running_var", TensorRole::kRunningVariance}}) {
        ESPALIER_RETURN_IF_ERROR(AddVector(name + "." + field, input.channels, role));
      }
    }
    return output;
  }

  absl::StatusOr<FeatureShape> AddResidual(const v1::ResidualLayer& residual,
                                           const std::string& name, const FeatureShape& input) {
    ESPALIER_ASSIGN_OR_RETURN(const FeatureShape body,
                              AddLayers(residual.body(), name + ".body", input));
    ESPALIER_ASSIGN_OR_RETURN(const FeatureShape shortcut,
                              AddLayers(residual.shortcut(), name + ".shortcut", input));
    const absl::Status status = CheckBranches(body, shortcut);
    if (!status.ok()) return base::Annotate(status, name);
    return body;
  }

  absl::Status AddWeight(const std::string& layer, std::vector<int64_t> shape, bool dense,
                         v1::Initializer initializer, int64_t positions) {
    ESPALIER_ASSIGN_OR_RETURN(tensor::TensorSpec spec,
                              tensor::CheckedTensor(layer + ".weight", std::move(shape)));
    spec.sparsifiable = !dense;
    tensors_.push_back({.spec = std::move(spec),
                        .role = TensorRole::kWeight,
                        .initializer = initializer,
                        .positions = positions});
    return absl::OkStatus();
  }

  absl::Status AddBias(const std::string& layer, int64_t outputs, bool no_bias) {
    return no_bias ? absl::OkStatus() : AddVector(layer + ".bias", outputs, TensorRole::kBias);
  }

  absl::Status AddVector(const std::string& name, int64_t size, TensorRole role) {
    ESPALIER_ASSIGN_OR_RETURN(tensor::TensorSpec spec, tensor::CheckedTensor(name, {size}));
    spec.buffer = role == TensorRole::kRunningMean || role == TensorRole::kRunningVariance;
    tensors_.push_back({.spec = std::move(spec), .role = role});
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
