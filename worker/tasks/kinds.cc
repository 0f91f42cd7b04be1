#include "worker/tasks/kinds.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/base/version.h"
#include "worker/tasks/train.h"

namespace espalier::worker::tasks {
namespace {

absl::Status UnknownKind() {
  return base::MakeError(absl::StatusCode::kUnimplemented, "TASK_KIND_UNKNOWN",
                         "expected a kind of task that this worker (version " +
                             std::string(base::Version()) +
                             ") knows, found another; upgrade the worker");
}

// The order of examples, and random numbers, are those of a moment in the training.
absl::Status CheckWhen(const v1::Task& task) {
  const bool by_steps = task.train().training().local_steps() > 0;
  if (task.train().first_step() >= 0 && (by_steps || task.round() >= 1)) return absl::OkStatus();
  return base::InvalidArgument(
      "TASK_INVALID", fmt::format("expected a task that trains in round 1 or later from step 0 or "
                                  "later, found round {} and step {}",
                                  task.round(), task.train().first_step()));
}

// A result of one section.
absl::StatusOr<Partial> AsPartial(v1::SectionKind kind, const absl::StatusOr<Measured>& measured) {
  ESPALIER_RETURN_IF_ERROR(measured.status());
  Partial partial;
  partial.header.set_examples(measured->examples);
  AddSection(kind, measured->values, partial);
  return partial;
}

absl::StatusOr<Partial> RunPredict(const v1::Task& task, Model& model) {
  const v1::Examples& examples = task.predict().examples();
  ESPALIER_ASSIGN_OR_RETURN(std::vector<float> outputs, model.Predict(examples));
  return AsPartial(v1::SECTION_KIND_PREDICTIONS,
                   Measured{examples.examples_size(), std::move(outputs)});
}

absl::StatusOr<Partial> RunGrowth(Model& model) {
  Partial partial;
  int64_t examples = 0;
  ESPALIER_ASSIGN_OR_RETURN(GrowthGradients gradients, model.InactiveGradients(examples));
  partial.header.set_examples(examples);
  ESPALIER_RETURN_IF_ERROR(
      AddScores(std::move(gradients.largest), model.state().topology->layout(), partial));
  return partial;
}

absl::StatusOr<Partial> RunObserve(const v1::Task& task, Model& model) {
  ESPALIER_ASSIGN_OR_RETURN(const Observed observed, model.Observe());
  Partial partial;
  partial.header.set_examples(observed.examples);
  AddSection(v1::SECTION_KIND_ACTIVATION_STATISTICS, v1::SECTION_TYPE_EXACT_SUMS,
             static_cast<uint64_t>(task.activation_statistics().inputs_size()), observed.sums,
             partial);
  return partial;
}

}  // namespace

absl::StatusOr<Partial> RunKind(const v1::Task& task, const std::atomic<bool>& cancelled,
                                Model& model) {
  switch (task.kind_case()) {
    case v1::Task::kTrain:
      ESPALIER_RETURN_IF_ERROR(CheckWhen(task));
      return RunTrain(task, cancelled, model);
    case v1::Task::kEvaluate:
      return model.Evaluate();
    case v1::Task::kCalibrate:
      return AsPartial(v1::SECTION_KIND_RUNNING_STATISTICS, model.Calibrate());
    case v1::Task::kScore:
      return AsPartial(v1::SECTION_KIND_SALIENCIES, model.Score());
    case v1::Task::kGrowth:
      return RunGrowth(model);
    case v1::Task::kChannelStatistics:
      return AsPartial(v1::SECTION_KIND_CHANNEL_STATISTICS, model.MeasureChannels());
    case v1::Task::kActivationStatistics:
      return RunObserve(task, model);
    case v1::Task::kPredict:
      return RunPredict(task, model);
    case v1::Task::kRecommend:
      return model.Recommend();
    case v1::Task::kEcho:
      // The values as they came: this measures the coordinator alone.
      return AsPartial(v1::SECTION_KIND_VALUES, model.Echo());
    case v1::Task::KIND_NOT_SET:
      return UnknownKind();
  }
  return UnknownKind();
}

const char* KindWord(const v1::Task& task) {
  if (task.has_train()) return "train";
  if (task.has_evaluate()) return "evaluate";
  if (task.has_calibrate() || task.has_activation_statistics()) return "calibrate";
  if (task.has_score()) return "score";
  if (task.has_growth()) return "growth";
  if (task.has_recommend()) return "recommend";
  if (task.has_predict()) return "predict";
  if (task.has_channel_statistics()) return "channel_statistics";
  return task.has_echo() ? "echo" : "other";
}

}  // namespace espalier::worker::tasks
