#include <algorithm>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/wire/compact_values.h"
#include "common/wire/model_spec/transformer.h"
#include "common/wire/values_codec.h"
#include "worker/language/network_spec.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {
namespace {

// What training asks of the loss.
void SetLossOptions(const v1::Training& training, engine::NetworkSpec& spec) {
  spec.loss_options.class_weights.assign(training.class_weights().begin(),
                                         training.class_weights().end());
  spec.loss_options.label_smoothing = training.label_smoothing();
}

absl::StatusOr<engine::NetworkSpec> SpecOf(const v1::ModelSpec& model, int64_t context) {
  if (!model.has_transformer()) return EngineSpec(model);
  ESPALIER_ASSIGN_OR_RETURN(const auto config, wire::ConfigOf(model.transformer(), context));
  return language::NetworkSpecOf(config, context);
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

int64_t PredictionsPerExample(const v1::Task& task) {
  return task.model().spec().has_transformer() ? std::max<int64_t>(1, task.data().text().context())
                                               : 1;
}

void AddSection(v1::SectionKind kind, v1::SectionType type, uint64_t count, std::string_view bytes,
                Partial& partial) {
  v1::Section& section = *partial.header.add_sections();
  section.set_kind(kind);
  section.set_type(type);
  section.set_count(count);
  section.set_bytes(bytes.size());
  partial.body += bytes;
}

void AddSection(v1::SectionKind kind, std::span<const float> values, Partial& partial) {
  AddSection(kind, v1::SECTION_TYPE_F32, values.size(), wire::ValuesAsBytes(values), partial);
}

void AddDifferences(const v1::Task& task, const v1::Section& section,
                    const tensor::ModelTopology& topology, std::span<const float> values,
                    const tensor::ModelState& start, Partial& partial) {
  const bool same = topology.hash() == start.topology->hash();
  const std::vector<float> moved =
      same ? std::vector<float>() : tensor::RelayoutSet(*start.topology, start.values, topology);
  const uint64_t key = base::StreamKey(task.seed(), "wire/" + task.participant(),
                                       {static_cast<uint64_t>(task.round())});
  AddSection(section.kind(), section.type(), values.size(),
             wire::EncodeDifferences(topology, section.type(), values,
                                     same ? std::span<const float>(start.values) : moved, key),
             partial);
}

absl::Status UnknownSection(const v1::Section& section) {
  return base::MakeError(absl::StatusCode::kUnimplemented, "SECTION_UNKNOWN",
                         "expected sections of results that this worker (version " ESPALIER_VERSION
                         ") can make, found number " +
                             std::to_string(static_cast<int>(section.kind())) +
                             "; upgrade the worker, or use another method");
}

absl::Status Cancelled() { return absl::CancelledError("the task was cancelled"); }

absl::Status NoTrainingExamples(const v1::Task& task) {
  return base::FailedPrecondition("SHARD_EMPTY", "expected training examples on shard " +
                                                     task.participant() +
                                                     ", found none; use fewer shards or another "
                                                     "partition");
}

absl::StatusOr<engine::Network*> NetworkCache::Get(
    const v1::Task& task, const std::shared_ptr<const tensor::ModelState>& model, int batch_size) {
  // Evaluation, calibration and prediction have no backward pass.
  const bool backward = !task.has_evaluate() && !task.has_calibrate() && !task.has_predict();
  const double pruning = task.train().training().activation_pruning();
  const v1::ModelSpec& given = task.model().spec();
  const int64_t predictions = PredictionsPerExample(task);
  const std::string structure = model->topology->hash() + "/" + std::to_string(batch_size) + "/" +
                                std::to_string(predictions) + "/" +
                                task.model().spec().SerializeAsString();
  const v1::Training& training = task.train().training();
  const std::string optimizer =
      training.optimizer().SerializeAsString() + "/" + std::to_string(training.label_smoothing());
  // Only training needs an optimizer; everything else takes the network that trained.
  // A task may have changed the structure of its network.
  const bool fits = network_ != nullptr && structure == structure_ &&
                    network_->topology()->hash() == model->topology->hash() &&
                    (!backward || pruning == activation_pruning_) &&
                    (!task.has_train() || optimizer == optimizer_);
  if (!fits) {
    network_ = nullptr;
    ESPALIER_ASSIGN_OR_RETURN(engine::NetworkSpec spec, SpecOf(given, predictions));
    spec.activation_pruning = pruning;
    SetLossOptions(task.train().training(), spec);
    ESPALIER_ASSIGN_OR_RETURN(
        network_, engine::Network::Create(
                      spec, OptimizerSpecOf(task.train().training().optimizer()), model->topology,
                      batch_size * predictions, threads_, engine::BackendKind::kOneDnn));
    structure_ = structure;
    optimizer_ = optimizer;
    activation_pruning_ = pruning;
  }
  ESPALIER_RETURN_IF_ERROR(network_->SetValues(model->values));
  return network_.get();
}

}  // namespace espalier::worker::tasks
