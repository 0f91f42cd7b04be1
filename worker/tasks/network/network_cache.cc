#include "worker/tasks/network/network_cache.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "worker/tasks/network/example_form.h"

namespace espalier::worker::tasks {
namespace {

// What training asks of the loss.
void SetLossOptions(const v1::Training& training, engine::NetworkSpec& spec) {
  spec.loss_options.class_weights.assign(training.class_weights().begin(),
                                         training.class_weights().end());
  spec.loss_options.label_smoothing = training.label_smoothing();
}

// Options of the loss, which a network is made with.
std::string LossKey(const v1::Training& training) {
  v1::Training key;
  *key.mutable_class_weights() = training.class_weights();
  key.set_label_smoothing(training.label_smoothing());
  return key.SerializeAsString();
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
