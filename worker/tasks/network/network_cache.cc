#include "worker/tasks/network/network_cache.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/wire/model_spec/shapes.h"
#include "worker/tasks/network/example_form.h"

namespace espalier::worker::tasks {
namespace {

engine::Activation ToEngine(v1::Activation activation) {
  switch (activation) {
    case v1::ACTIVATION_RELU:
      return engine::Activation::kRelu;
    case v1::ACTIVATION_SIGMOID:
      return engine::Activation::kSigmoid;
    case v1::ACTIVATION_TANH:
      return engine::Activation::kTanh;
    case v1::ACTIVATION_SOFTMAX:
      return engine::Activation::kSoftmax;
    default:
      return engine::Activation::kLinear;
  }
}

engine::Loss ToEngine(v1::Loss loss) {
  switch (loss) {
    case v1::LOSS_MEAN_SQUARED_ERROR:
      return engine::Loss::kMeanSquaredError;
    case v1::LOSS_MEAN_ABSOLUTE_ERROR:
      return engine::Loss::kMeanAbsoluteError;
    case v1::LOSS_HUBER:
      return engine::Loss::kHuber;
    case v1::LOSS_BINARY_CROSS_ENTROPY:
      return engine::Loss::kBinaryCrossEntropy;
    default:
      return engine::Loss::kCrossEntropy;
  }
}

// What training asks of the loss.
void SetLossOptions(const v1::Training& training, engine::NetworkSpec& spec) {
  spec.loss_options.class_weights.assign(training.class_weights().begin(),
                                         training.class_weights().end());
  spec.loss_options.label_smoothing = training.label_smoothing();
}

std::vector<engine::LayerSpec> ToEngine(
    const google::protobuf::RepeatedPtrField<v1::Layer>& layers);

void SetWindow(const wire::Window& window, engine::LayerSpec& spec) {
  spec.kernel = window.kernel;
  spec.stride = window.stride;
  spec.padding = window.padding;
}

engine::LayerSpec ToEngine(const v1::LinearLayer& linear) {
  return {.units = linear.units(),
          .activation = ToEngine(linear.activation()),
          .dropout = linear.dropout(),
          .dense = linear.dense(),
          .bias = !linear.no_bias()};
}

engine::LayerSpec ToEngine(const v1::Conv2dLayer& conv) {
  engine::LayerSpec spec = {.kind = engine::LayerKind::kConv,
                            .units = conv.channels(),
                            .activation = ToEngine(conv.activation()),
                            .dense = conv.dense(),
                            .bias = !conv.no_bias(),
                            .standardize = conv.standardize()};
  SetWindow(wire::WindowOf(conv), spec);
  return spec;
}

engine::LayerSpec ToEngine(const v1::BatchNormLayer& norm) {
  engine::LayerSpec spec = {.kind = engine::LayerKind::kBatchNorm,
                            .activation = ToEngine(norm.activation())};
  if (norm.momentum() > 0) spec.momentum = norm.momentum();
  if (norm.epsilon() > 0) spec.epsilon = norm.epsilon();
  return spec;
}

engine::LayerSpec ToEngine(engine::LayerKind kind, const v1::PoolLayer& pool) {
  engine::LayerSpec spec = {.kind = kind};
  SetWindow(wire::WindowOf(pool), spec);
  return spec;
}

engine::LayerSpec ToEngine(const v1::Layer& layer) {
  switch (layer.kind_case()) {
    case v1::Layer::kConv2D:
      return ToEngine(layer.conv2d());
    case v1::Layer::kBatchNorm:
      return ToEngine(layer.batch_norm());
    case v1::Layer::kMaxPool:
      return ToEngine(engine::LayerKind::kMaxPool, layer.max_pool());
    case v1::Layer::kAvgPool:
      return ToEngine(engine::LayerKind::kAveragePool, layer.avg_pool());
    case v1::Layer::kGlobalAvgPool:
      return {.kind = engine::LayerKind::kGlobalAveragePool};
    case v1::Layer::kFlatten:
      return {.kind = engine::LayerKind::kFlatten};
    case v1::Layer::kResidual:
      return {.kind = engine::LayerKind::kResidual,
              .activation = ToEngine(layer.residual().activation()),
              .body = ToEngine(layer.residual().body()),
              .shortcut = ToEngine(layer.residual().shortcut())};
    default:
      return ToEngine(layer.linear());
  }
}

std::vector<engine::LayerSpec> ToEngine(
    const google::protobuf::RepeatedPtrField<v1::Layer>& layers) {
  std::vector<engine::LayerSpec> specs;
  for (const v1::Layer& layer : layers) specs.push_back(ToEngine(layer));
  return specs;
}

}  // namespace

engine::OptimizerSpec OptimizerSpecOf(const v1::Optimizer& optimizer) {
  engine::OptimizerSpec spec;
  spec.kind = optimizer.kind() == v1::Optimizer::KIND_ADAM ? engine::OptimizerSpec::Kind::kAdam
                                                           : engine::OptimizerSpec::Kind::kSgd;
  spec.momentum = optimizer.momentum();
  spec.nesterov = optimizer.nesterov();
  spec.weight_decay = optimizer.weight_decay();
  spec.decoupled_weight_decay = optimizer.decoupled_weight_decay();
  if (optimizer.beta1() > 0) spec.beta1 = optimizer.beta1();
  if (optimizer.beta2() > 0) spec.beta2 = optimizer.beta2();
  if (optimizer.epsilon() > 0) spec.epsilon = optimizer.epsilon();
  spec.lazy_rows = optimizer.lazy_rows();
  return spec;
}

engine::NetworkSpec EngineSpec(const v1::ModelSpec& model) {
  engine::NetworkSpec spec;
  spec.input_features = model.input_features();
  spec.input_dropout = model.input_dropout();
  spec.loss = ToEngine(model.loss());
  if (model.huber_delta() > 0) spec.loss_options.huber_delta = model.huber_delta();
  spec.dropout_scaling = model.dropout_scaling() == v1::DROPOUT_SCALING_EVALUATION
                             ? engine::DropoutScaling::kEvaluation
                             : engine::DropoutScaling::kTraining;
  spec.layers = ToEngine(model.layers());
  if (model.has_input_image()) {
    spec.input_image = {model.input_image().channels(), model.input_image().height(),
                        model.input_image().width()};
  }
  return spec;
}

namespace {

// Options of the loss, which a network is made with.
std::string LossKey(const v1::Training& training) {
  v1::Training key;
  *key.mutable_class_weights() = training.class_weights();
  key.set_label_smoothing(training.label_smoothing());
  return key.SerializeAsString();
}

}  // namespace

absl::StatusOr<engine::Network*> NetworkCache::Get(
    const v1::Task& task, const std::shared_ptr<const tensor::ModelState>& model, int batch_size) {
  // Evaluation, calibration and prediction have no backward pass.
  const bool backward = !task.has_evaluate() && !task.has_calibrate() && !task.has_predict();
  const double pruning = task.train().training().activation_pruning();
  const v1::ModelSpec& given = task.model().spec();
  const ExampleForm& form = FormOf(given);
  const int64_t columns = form.ColumnsPerExample(task);
  const std::string structure = model->topology->hash() + "/" + std::to_string(batch_size) + "/" +
                                std::to_string(columns) + "/" +
                                task.model().spec().SerializeAsString();
  const std::string optimizer = task.train().training().optimizer().SerializeAsString();
  const std::string loss = LossKey(task.train().training());
  // Only training needs an optimizer, and only gradients the options of the loss; everything else
  // takes the network that trained.
  // A task may have changed the structure of its network.
  const bool fits = network_ != nullptr && structure == structure_ &&
                    network_->topology()->hash() == model->topology->hash() &&
                    (!backward || (pruning == activation_pruning_ && loss == loss_)) &&
                    (!task.has_train() || optimizer == optimizer_);
  if (!fits) {
    network_ = nullptr;
    ESPALIER_ASSIGN_OR_RETURN(engine::NetworkSpec spec, form.NetworkSpecOf(given, columns));
    spec.activation_pruning = pruning;
    SetLossOptions(task.train().training(), spec);
    ESPALIER_ASSIGN_OR_RETURN(
        network_, engine::Network::Create(
                      spec, OptimizerSpecOf(task.train().training().optimizer()), model->topology,
                      batch_size * columns, threads_, engine::BackendKind::kOneDnn));
    structure_ = structure;
    optimizer_ = optimizer;
    loss_ = loss;
    activation_pruning_ = pruning;
  }
  ESPALIER_RETURN_IF_ERROR(network_->SetValues(model->values));
  return network_.get();
}

}  // namespace espalier::worker::tasks
