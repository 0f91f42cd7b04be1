#include "worker/tasks/model.h"

#include <fmt/format.h>

#include "common/base/status.h"
#include "common/base/version.h"

namespace espalier::worker::tasks {

absl::Status Model::NotOffered(std::string_view what) const {
  return base::MakeError(
      absl::StatusCode::kUnimplemented, "TASK_KIND_UNKNOWN",
      fmt::format("expected a task that {} can do on this worker (version {}), found {}; use "
                  "another method (see `espalier method list --families`), or "
                  "upgrade the worker",
                  family(), base::Version(), what));
}

absl::StatusOr<TrainingPlan> Model::BeginTraining() { return NotOffered("train"); }
absl::StatusOr<StepSums> Model::TrainStep(int64_t) { return NotOffered("train"); }
TrainedTensors Model::Trained() { return {}; }
std::vector<float> Model::OptimizerState() { return {}; }
absl::StatusOr<GrowthGradients> Model::GradientsForGrowth() { return NotOffered("growth"); }
absl::StatusOr<std::vector<float>> Model::Importance() { return NotOffered("importance"); }
absl::StatusOr<std::string> Model::StructureUpdate() { return NotOffered("readjustment"); }
absl::Status Model::EndTraining() { return absl::OkStatus(); }
absl::StatusOr<Partial> Model::Evaluate() { return NotOffered("evaluate"); }
absl::StatusOr<Partial> Model::Recommend() { return NotOffered("recommend"); }
absl::StatusOr<std::vector<float>> Model::Predict(const v1::Examples&) {
  return NotOffered("predict");
}
absl::StatusOr<Observed> Model::Observe() { return NotOffered("activation_statistics"); }
absl::StatusOr<Measured> Model::Calibrate() { return NotOffered("calibrate"); }
absl::StatusOr<Measured> Model::Score() { return NotOffered("score"); }
absl::StatusOr<Measured> Model::MeasureChannels() { return NotOffered("channel_statistics"); }
absl::StatusOr<GrowthGradients> Model::InactiveGradients(int64_t&) { return NotOffered("growth"); }

absl::StatusOr<Measured> Model::Echo() {
  if (state_ == nullptr) return NotOffered("echo");
  return Measured{1, state_->values};
}

}  // namespace espalier::worker::tasks
