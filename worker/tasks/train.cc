// Task kind `train`: local steps of a model of any family, and what the method asks for of them.
#include "worker/tasks/train.h"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/wire/model_spec/frozen.h"

namespace espalier::worker::tasks {
namespace {

absl::Status Diverged(int64_t step) {
  return base::FailedPrecondition(
      "NON_FINITE", "expected a finite loss, found none at local step " + std::to_string(step + 1) +
                        ": training diverges; lower training.optimizer.learning_rate");
}

// All steps; sums become those of as many examples as the participant has, however many passes it
// made.
absl::Status TrainSteps(const TrainingPlan& plan, const std::atomic<bool>& cancelled, Model& model,
                        v1::PartialHeader& header) {
  StepSums sums;
  for (int64_t step = 0; step < plan.steps; ++step) {
    if (cancelled) return Cancelled();
    ESPALIER_ASSIGN_OR_RETURN(const StepSums one, model.TrainStep(step));
    if (!std::isfinite(one.loss)) return Diverged(step);
    sums.loss += one.loss;
    sums.correct += one.correct;
    sums.examples += one.examples;
  }
  const double share =
      static_cast<double>(plan.examples) / static_cast<double>(std::max<int64_t>(1, sums.examples));
  header.set_examples(plan.examples);
  header.set_steps(plan.steps);
  header.set_loss_sum(sums.loss * share);
  header.set_correct(std::llround(static_cast<double>(sums.correct) * share));
  return absl::OkStatus();
}

// The sections that a task asks for, of a model as trained.
class TrainedSections {
 public:
  TrainedSections(const v1::Task& task, const tensor::ModelState& start, Model& model)
      : task_(task), start_(start), model_(model) {}

  absl::Status AddTo(Partial& partial) {
    for (const v1::Section& section : task_.sections()) {
      ESPALIER_RETURN_IF_ERROR(Add(section, partial));
    }
    return absl::OkStatus();
  }

 private:
  absl::Status Add(const v1::Section& section, Partial& partial) {
    const v1::SectionKind kind = section.kind();
    switch (kind) {
      case v1::SECTION_KIND_VALUES:
        AddLearned(kind, model_.Trained().values, partial);
        return absl::OkStatus();
      case v1::SECTION_KIND_DIFFERENCES: {
        const TrainedTensors trained = model_.Trained();
        return AddDifferences(task_, section, *trained.topology, trained.values, start_, partial);
      }
      case v1::SECTION_KIND_OPTIMIZER_STATE:
        AddLearned(kind, model_.OptimizerState(), partial);
        return absl::OkStatus();
      case v1::SECTION_KIND_GRADIENTS: {
        ESPALIER_RETURN_IF_ERROR(NeedGradients());
        if (gradients_->active.empty()) return UnknownSection(section);
        AddSection(kind, gradients_->active, partial);
        return absl::OkStatus();
      }
      case v1::SECTION_KIND_IMPORTANCE: {
        ESPALIER_ASSIGN_OR_RETURN(const std::vector<float> importance, model_.Importance());
        if (importance.empty()) return UnknownSection(section);
        AddSection(kind, importance, partial);
        return absl::OkStatus();
      }
      case v1::SECTION_KIND_GROWTH:
        ESPALIER_RETURN_IF_ERROR(NeedGradients());
        return AddScores(std::move(gradients_->largest), start_.topology->layout(), partial);
      case v1::SECTION_KIND_STRUCTURE: {
        ESPALIER_ASSIGN_OR_RETURN(const std::string update, model_.StructureUpdate());
        AddSection(kind, v1::SECTION_TYPE_TOPOLOGY_UPDATE, section.count(), update, partial);
        return absl::OkStatus();
      }
      default:
        return UnknownSection(section);
    }
  }

  // `values`: whole sets of the trained model's.
  void AddLearned(v1::SectionKind kind, std::span<const float> values, Partial& partial) {
    const TrainedTensors trained = model_.Trained();
    const wire::LearnedPart learned(task_.train().training(), *trained.topology);
    if (learned.is_whole()) {
      AddSection(kind, values, partial);
    } else {
      AddSection(kind, learned.Of(values), partial);
    }
  }

  absl::Status NeedGradients() {
    if (gradients_) return absl::OkStatus();
    ESPALIER_ASSIGN_OR_RETURN(gradients_, model_.GradientsForGrowth());
    return absl::OkStatus();
  }

  const v1::Task& task_;
  const tensor::ModelState& start_;
  Model& model_;
  std::optional<GrowthGradients> gradients_;
};

}  // namespace

absl::StatusOr<Partial> RunTrain(const v1::Task& task, const std::atomic<bool>& cancelled,
                                 Model& model) {
  ESPALIER_ASSIGN_OR_RETURN(const TrainingPlan plan, model.BeginTraining());
  Partial partial;
  ESPALIER_RETURN_IF_ERROR(TrainSteps(plan, cancelled, model, partial.header));
  ESPALIER_RETURN_IF_ERROR(TrainedSections(task, model.state(), model).AddTo(partial));
  ESPALIER_RETURN_IF_ERROR(model.EndTraining());
  return partial;
}

}  // namespace espalier::worker::tasks
