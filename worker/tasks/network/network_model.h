// NetworkModel: layers, and transformers that are whole in memory, on the examples of a shard.
//
// Training:    steps take fresh permutations of the shard's examples, one for each epoch, so that
//              step s of the whole job always sees the same examples, whichever worker does it.
// Memory:      what the network and one batch take; Importance() and Score() say more.
// Errors:      as model.h; SHARD_TOO_SMALL for a batch norm that a single example leaves nothing;
//              those of engine::Network. A network whose training did not end is let go.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "worker/tasks/local_data.h"
#include "worker/tasks/model.h"
#include "worker/tasks/network/additions/extrude.h"
#include "worker/tasks/network/additions/importance.h"
#include "worker/tasks/network/additions/readjust.h"
#include "worker/tasks/network/example_form.h"
#include "worker/tasks/network/network_cache.h"

namespace espalier::worker::tasks {

// The bytes of a blob that a task names.
using FetchBlob = std::function<absl::StatusOr<std::string>(const v1::BlobRef&)>;

struct BatchBuffer;
class ExampleOrder;

class NetworkModel : public Model {
 public:
  // Borrows the caches.
  NetworkModel(const v1::Task& task, std::shared_ptr<const tensor::ModelState> state,
               const std::atomic<bool>& cancelled, LocalData& data, NetworkCache& networks,
               const data::LoadOptions& load, FetchBlob fetch);
  ~NetworkModel() override;

  std::string_view family() const override { return "networks"; }

  absl::StatusOr<TrainingPlan> BeginTraining() override;
  absl::StatusOr<StepSums> TrainStep(int64_t step) override;
  TrainedTensors Trained() override;
  std::vector<float> OptimizerState() override { return network_->optimizer_state(); }
  absl::StatusOr<GrowthGradients> GradientsForGrowth() override;
  // 4 bytes for each position of the dense model, twice that with several groups.
  absl::StatusOr<std::vector<float>> Importance() override;
  absl::StatusOr<std::string> StructureUpdate() override;
  absl::Status EndTraining() override;

  absl::StatusOr<Partial> Evaluate() override;
  absl::StatusOr<std::vector<float>> Predict(const v1::Examples& examples) override;
  absl::StatusOr<Observed> Observe() override;
  absl::StatusOr<Measured> Calibrate() override;
  // Dense, for a dense model: SNIP takes two floats for each weight beside the network; SynFlow see
  // engine/synaptic_flow.h.
  absl::StatusOr<Measured> Score() override;
  absl::StatusOr<Measured> MeasureChannels() override;
  absl::StatusOr<GrowthGradients> InactiveGradients(int64_t& examples) override;

 private:
  // The shard's examples, once they are known to fit the model.
  absl::StatusOr<ShardView> Shard();
  // Likewise, of which there are some to train on.
  absl::StatusOr<ShardView> TrainingShard();
  absl::StatusOr<engine::Network*> NetworkFor(int batch_size) {
    return networks_.Get(task(), shared_state(), batch_size);
  }
  absl::StatusOr<std::vector<float>> FetchCorrection() const;
  absl::StatusOr<Measured> ScoreBySnip();
  absl::StatusOr<Measured> ScoreBySynFlow();

  LocalData& data_;
  NetworkCache& networks_;
  const data::LoadOptions load_;
  const FetchBlob fetch_;
  const ExampleForm& form_;

  // While training.
  engine::Network* network_ = nullptr;
  ShardView shard_;
  std::vector<int32_t> training_examples_;
  std::unique_ptr<ExampleOrder> order_;
  std::unique_ptr<BatchBuffer> buffer_;
  std::vector<float> correction_;
  std::optional<tasks::Importance> importance_;
  std::optional<Readjuster> readjuster_;
  std::optional<Extruder> extruder_;
  int64_t first_step_ = 0;
  int64_t steps_ = 0;
  std::vector<float> second_moments_;
};

}  // namespace espalier::worker::tasks
