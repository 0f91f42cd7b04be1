// What the task kinds share: the surroundings of a task and its result.
//
// Every kind is a function (Surroundings, Task, model) -> Partial in a file of its own.
// Threading:   one task at a time; `cancelled` may become true at any moment and is asked once per
//              batch.
// Determinism: a partial is a function of the task and the data alone, on one type of processor, so
//              that a task can be given to another worker.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"
#include "worker/engine/network.h"
#include "worker/tasks/local_data.h"

namespace espalier::worker::tasks {

// The network of the last task: a task on the same structure only sets new values.
class NetworkCache {
 public:
  explicit NetworkCache(int threads) : threads_(threads) {}
  // A network for `task`'s model with `model`'s values and fresh optimizer state.
  absl::StatusOr<engine::Network*> Get(const v1::Task& task,
                                       const std::shared_ptr<const tensor::ModelState>& model,
                                       int batch_size);
  int threads() const { return threads_; }
  // Lets go of the network: after an error it is of no more use.
  void Forget() { network_ = nullptr; }

 private:
  int threads_;
  std::string structure_;
  std::string optimizer_;
  double activation_pruning_ = 0;
  std::unique_ptr<engine::Network> network_;
};

class Recommenders;  // recommender.h

struct Surroundings {
  LocalData& data;
  NetworkCache& networks;
  Recommenders& recommenders;
  const std::atomic<bool>& cancelled;
  // The bytes of a blob that the task names.
  std::function<absl::StatusOr<std::string>(const v1::BlobRef&)> fetch = {};
};

struct Partial {
  v1::PartialHeader header;  // examples, loss_sum, correct, sections, topology_hash
  std::string body;
};

// Appends a section to a result: the task's, in their order. `count` is the number of elements that
// `bytes` are, the other form's of float32.
void AddSection(v1::SectionKind kind, std::span<const float> values, Partial& partial);
void AddSection(v1::SectionKind kind, v1::SectionType type, uint64_t count, std::string_view bytes,
                Partial& partial);

// Appends the section DIFFERENCES that `task` asks for: `values`, of structure `topology`, less
// those of `start`, rounded by a key of the task's seed, round and participant, so that whoever
// does the task sends the same. A weight that `start` does not have began with 0.
void AddDifferences(const v1::Task& task, const v1::Section& section,
                    const tensor::ModelTopology& topology, std::span<const float> values,
                    const tensor::ModelState& start, Partial& partial);

absl::StatusOr<Partial> RunTrain(Surroundings& surroundings, const v1::Task& task,
                                 const std::shared_ptr<const tensor::ModelState>& model);
absl::StatusOr<Partial> RunEvaluate(Surroundings& surroundings, const v1::Task& task,
                                    const std::shared_ptr<const tensor::ModelState>& model);
absl::StatusOr<Partial> RunCalibrate(Surroundings& surroundings, const v1::Task& task,
                                     const std::shared_ptr<const tensor::ModelState>& model);
absl::StatusOr<Partial> RunScore(Surroundings& surroundings, const v1::Task& task,
                                 const std::shared_ptr<const tensor::ModelState>& model);
absl::StatusOr<Partial> RunGrowth(Surroundings& surroundings, const v1::Task& task,
                                  const std::shared_ptr<const tensor::ModelState>& model);
// On a network; for a language model see language.h.
absl::StatusOr<Partial> RunActivationStatistics(
    Surroundings& surroundings, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model);
absl::StatusOr<Partial> RunChannelStatistics(Surroundings& surroundings, const v1::Task& task);
// For a language model in parts there is none.
absl::StatusOr<Partial> RunPredict(Surroundings& surroundings, const v1::Task& task,
                                   const std::shared_ptr<const tensor::ModelState>& model);
absl::StatusOr<Partial> RunEcho(const v1::Task& task,
                                const std::shared_ptr<const tensor::ModelState>& model);

// The network that a model of layers stands for.
engine::NetworkSpec EngineSpec(const v1::ModelSpec& model);
engine::OptimizerSpec OptimizerSpecOf(const v1::Optimizer& optimizer);

// The same kinds on recommenders.
absl::StatusOr<Partial> RunRecommenderTrain(Surroundings& surroundings, const v1::Task& task,
                                            const std::shared_ptr<const tensor::ModelState>& model);
absl::StatusOr<Partial> RunRecommenderEvaluate(
    Surroundings& surroundings, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model);
absl::StatusOr<Partial> RunRecommend(Surroundings& surroundings, const v1::Task& task,
                                     const std::shared_ptr<const tensor::ModelState>& model);
absl::StatusOr<Partial> RunRecommenderPredict(
    Surroundings& surroundings, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model);

// Labels of one example: its tokens for a language model, otherwise one. Results count these.
int64_t PredictionsPerExample(const v1::Task& task);

// The error of a task that asks for a section which this kind of task on this kind of model does
// not have.
absl::Status UnknownSection(const v1::Section& section);
// The error of a task that was cancelled.
absl::Status Cancelled();
// The error of a task that needs training examples on a shard that has none.
absl::Status NoTrainingExamples(const v1::Task& task);
// The error of training that diverges at local step `step`, from 0.
absl::Status Diverged(int64_t step);

}  // namespace espalier::worker::tasks
