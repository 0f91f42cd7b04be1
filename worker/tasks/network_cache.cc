#include <utility>

#include "common/base/status.h"
#include "worker/tasks/task.h"

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
  if (loss == v1::LOSS_MEAN_SQUARED_ERROR) return engine::Loss::kMeanSquaredError;
  if (loss == v1::LOSS_BINARY_CROSS_ENTROPY) return engine::Loss::kBinaryCrossEntropy;
  return engine::Loss::kCrossEntropy;
}

engine::NetworkSpec ToEngine(const v1::ModelSpec& model) {
  engine::NetworkSpec spec;
  spec.input_features = model.input_features();
  spec.input_dropout = model.input_dropout();
  spec.loss = ToEngine(model.loss());
  spec.dropout_scaling = model.dropout_scaling() == v1::DROPOUT_SCALING_EVALUATION
                             ? engine::DropoutScaling::kEvaluation
                             : engine::DropoutScaling::kTraining;
  for (const v1::Layer& layer : model.layers()) {
    const v1::LinearLayer& linear = layer.linear();
    spec.layers.push_back({linear.units(), ToEngine(linear.activation()), linear.dropout(),
                           linear.dense(), !linear.no_bias()});
  }
  return spec;
}

engine::OptimizerSpec ToEngine(const v1::Optimizer& optimizer) {
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
  return spec;
}

}  // namespace

absl::Status Cancelled() { return absl::CancelledError("the task was cancelled"); }

absl::StatusOr<engine::Network*> NetworkCache::Get(
    const v1::Task& task, const std::shared_ptr<const tensor::ModelState>& model, int batch_size) {
  const std::string structure = model->topology->hash() + "/" + std::to_string(batch_size) + "/" +
                                task.model().spec().SerializeAsString();
  const std::string optimizer = task.train().training().optimizer().SerializeAsString();
  // Evaluation needs no optimizer, so it takes the network that trained.
  const bool fits = network_ != nullptr && structure == structure_ &&
                    (task.has_evaluate() || optimizer == optimizer_);
  if (!fits) {
    network_ = nullptr;
    ESPALIER_ASSIGN_OR_RETURN(
        network_, engine::Network::Create(
                      ToEngine(task.model().spec()), ToEngine(task.train().training().optimizer()),
                      model->topology, batch_size, threads_, engine::BackendKind::kOneDnn));
    structure_ = structure;
    optimizer_ = optimizer;
  }
  ESPALIER_RETURN_IF_ERROR(network_->SetValues(model->values));
  return network_.get();
}

}  // namespace espalier::worker::tasks
