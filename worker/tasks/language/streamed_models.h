// StreamedModels: pretrained language models block by block: statistics of a block's inputs, and
// loss on test text. It keeps what the next task needs.
//
// Memory:      one block and one group of sequences at a time; what sequences have become after the
//              blocks so far is kept between tasks, up to kKeptStateBytes in all, and computed
//              again where it is not.
// Determinism: every sequence runs alone, so that neither shards nor batches change a bit.
// Threading:   one task at a time.
// Errors:      those of worker/data, of parts (common/language/part_codec.h) and of the engine;
//              FailedPrecondition TEXT_VOCABULARY when the text has tokens that the model lacks.
#pragma once

#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/language/part_codec.h"
#include "espalier/v1/worker.pb.h"
#include "worker/language/language_engine.h"
#include "worker/tasks/local_data.h"
#include "worker/tasks/model.h"

namespace espalier::worker::tasks {

class StreamedModels {
 public:
  using Fetch = std::function<absl::StatusOr<std::string>(const v1::BlobRef&)>;
  StreamedModels(Fetch fetch, int threads) : fetch_(std::move(fetch)), threads_(threads) {}

  // Sums over the inputs of the block that the task names.
  absl::StatusOr<Observed> Observe(LocalData& data, const v1::Task& task,
                                   const std::atomic<bool>& cancelled);
  // Loss on the test text.
  absl::StatusOr<Partial> Evaluate(LocalData& data, const v1::Task& task,
                                   const std::atomic<bool>& cancelled);
  // Lets go of what is kept.
  void Forget();

 private:
  static constexpr int64_t kKeptStateBytes = int64_t{1} << 30;
  // Sequences before block `block`, for tasks that ask for the same of the same model.
  struct Kept {
    std::string key;
    std::vector<language::HiddenState> states;
    int64_t bytes = 0;
  };
  struct Sequence {
    std::vector<int32_t> inputs;
    std::vector<int32_t> targets;  // −1: does not count
  };

  // Makes engine and outer weights those of the task.
  absl::Status Prepare(const v1::Task& task);
  absl::StatusOr<std::vector<Sequence>> Sequences(LocalData& data, const v1::Task& task,
                                                  bool test) const;
  absl::StatusOr<std::unique_ptr<language::LoadedBlock>> LoadBlock(const v1::Task& task, int block);
  // `sequences` as they are before block `block`.
  absl::StatusOr<std::vector<language::HiddenState>> StatesBefore(
      const v1::Task& task, const std::atomic<bool>& cancelled, int block,
      const std::vector<Sequence>& sequences);
  absl::StatusOr<std::vector<language::HiddenState>> Embed(
      const std::vector<Sequence>& sequences) const;
  absl::Status RunBlock(const v1::Task& task, const std::atomic<bool>& cancelled, int block,
                        std::vector<language::HiddenState>& states);
  void Keep(std::string key, std::vector<language::HiddenState> states);

  Fetch fetch_;
  int threads_;
  std::string model_key_;  // configuration, outer part and longest sequence
  ::espalier::language::OuterWeights outer_;
  std::unique_ptr<language::LanguageEngine> engine_;
  std::deque<Kept> kept_;  // newest last
};

// One task's language model in parts.
class StreamedModel : public Model {
 public:
  // Borrows both caches.
  StreamedModel(const v1::Task& task, const std::atomic<bool>& cancelled, LocalData& data,
                StreamedModels& models)
      : Model(task, nullptr, cancelled), data_(data), models_(models) {}

  std::string_view family() const override { return "language models in parts"; }
  absl::StatusOr<Observed> Observe() override {
    return models_.Observe(data_, task(), cancellation());
  }
  absl::StatusOr<Partial> Evaluate() override {
    return models_.Evaluate(data_, task(), cancellation());
  }

 private:
  LocalData& data_;
  StreamedModels& models_;
};

}  // namespace espalier::worker::tasks
