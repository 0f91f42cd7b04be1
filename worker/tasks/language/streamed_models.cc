#include "worker/tasks/language/streamed_models.h"

#include <fmt/core.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/pruning/activation_statistics.h"

namespace espalier::worker::tasks {
namespace {

namespace model = ::espalier::language;
using language::HiddenState;
using sparsity::ActivationStatistics;

// Residual streams of a group of test sequences, which pass all blocks together.
constexpr int64_t kGroupBytes = int64_t{256} << 20;

// Identifies what sequences have become before a block: data, participant and all parts so far.
std::string StateKey(const v1::Task& task, int block) {
  const v1::LanguageModelRef& parts = task.model().language();
  std::string key = fmt::format("{}/{}/{}/{}", task.data().SerializeAsString(), task.seed(),
                                task.shard(), parts.outer().digest());
  for (int b = 0; b < block; ++b) key += "/" + parts.blocks(b).digest();
  return key;
}

// The tokens of an example and the one that follows it, which is its label (worker/data/text.h).
std::vector<int32_t> TokensOf(const data::Dataset& dataset, int64_t row) {
  std::vector<int32_t> tokens(dataset.features() + 1);
  for (int64_t i = 0; i < dataset.features(); ++i) {
    tokens[i] = dataset.is_bytes() ? dataset.ByteRow(row)[i]
                                   : static_cast<int32_t>(dataset.FloatRow(row)[i]);
  }
  tokens.back() = dataset.label(row);
  return tokens;
}

// Statistics of the inputs that a task asks for, by the names of layers in a block.
class Collector {
 public:
  explicit Collector(const v1::ActivationStatisticsTask& task) {
    for (const auto& input : task.inputs()) {
      names_.push_back(input.layer());
      statistics_.emplace_back(input.columns(), input.gram());
    }
  }
  void Observe(const language::LinearInput& input) {
    const auto found = std::find(names_.begin(), names_.end(), input.name);
    if (found == names_.end() || !status_.ok()) return;
    ActivationStatistics& statistics = statistics_[found - names_.begin()];
    if (statistics.columns() != input.inputs) {
      status_ = base::InvalidArgument(
          "SHAPE_MISMATCH", fmt::format("expected {} inputs of {}, found {}", statistics.columns(),
                                        input.name, input.inputs));
      return;
    }
    status_ = statistics.AddSequence(input.x, input.stride, input.tokens);
  }
  absl::StatusOr<std::string> Finish(int64_t sequences) const {
    ESPALIER_RETURN_IF_ERROR(status_);
    std::string body;
    for (size_t i = 0; i < names_.size(); ++i) {
      if (statistics_[i].sequences() != sequences) {
        return base::InvalidArgument(
            "SHAPE_MISMATCH",
            fmt::format("expected a linear layer {} in the model's blocks, found none", names_[i]));
      }
      statistics_[i].AppendTo(body);
    }
    return body;
  }
  const absl::Status& status() const { return status_; }

 private:
  std::vector<std::string> names_;
  std::vector<ActivationStatistics> statistics_;
  absl::Status status_;
};

}  // namespace

void StreamedModels::Forget() {
  model_key_.clear();
  engine_ = nullptr;
  outer_ = {};
  kept_.clear();
}

absl::Status StreamedModels::Prepare(const v1::Task& task) {
  const v1::LanguageModelRef& parts = task.model().language();
  const int64_t context = std::max<int64_t>(1, task.data().text().context());
  std::string key = fmt::format("{}/{}/{}", context, parts.outer().digest(), parts.config_json());
  if (key == model_key_) return absl::OkStatus();
  model_key_.clear();
  engine_ = nullptr;
  kept_.clear();
  ESPALIER_ASSIGN_OR_RETURN(const model::TransformerConfig config,
                            model::ParseTransformerConfig(parts.config_json()));
  if (parts.blocks_size() != config.blocks) {
    return base::InvalidArgument("SHAPE_MISMATCH",
                                 fmt::format("expected {} blocks of the task's model, found {}",
                                             config.blocks, parts.blocks_size()));
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes, fetch_(parts.outer()));
  ESPALIER_ASSIGN_OR_RETURN(outer_, model::DecodeOuter(bytes, config));
  ESPALIER_ASSIGN_OR_RETURN(engine_, language::LanguageEngine::Create(config, context, threads_));
  model_key_ = std::move(key);
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StreamedModels::Sequence>> StreamedModels::Sequences(
    LocalData& data, const v1::Task& task, bool test) const {
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard,
                            data.Get(task, [](const data::Dataset&) { return absl::OkStatus(); }));
  const int64_t vocabulary = engine_->config().vocabulary;
  const v1::TextData& text = task.data().text();
  const int64_t stride = text.stride() > 0 ? text.stride() : text.context();
  std::vector<Sequence> sequences;
  for (const int32_t row : test ? shard.indices->test : shard.indices->train) {
    const std::vector<int32_t> tokens = TokensOf(*shard.dataset, row);
    for (const int32_t token : tokens) {
      if (token < 0 || token >= vocabulary) {
        return base::FailedPrecondition(
            "TEXT_VOCABULARY",
            fmt::format("expected tokens below {}, the model's vocabulary, found {} in data set "
                        "'{}'; put the model's tokenizer beside the text and set "
                        "data.text.tokenizer: file",
                        vocabulary, token, task.data().dataset()));
      }
    }
    Sequence sequence;
    sequence.inputs.assign(tokens.begin(), tokens.end() - 1);
    sequence.targets.assign(tokens.begin() + 1, tokens.end());
    // What an overlapping earlier example predicts does not count again.
    const bool first = row == 0 || row == shard.dataset->train_rows();
    const int64_t again = first ? 0 : text.context() - stride;
    std::fill_n(sequence.targets.begin(), again, -1);
    sequences.push_back(std::move(sequence));
  }
  return sequences;
}

absl::StatusOr<std::unique_ptr<language::LoadedBlock>> StreamedModels::LoadBlock(
    const v1::Task& task, int block) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string bytes, fetch_(task.model().language().blocks(block)));
  ESPALIER_ASSIGN_OR_RETURN(model::BlockWeights weights,
                            model::DecodeBlock(bytes, engine_->config()));
  return engine_->Load(std::move(weights));
}

absl::StatusOr<std::vector<HiddenState>> StreamedModels::Embed(
    const std::vector<Sequence>& sequences) const {
  std::vector<HiddenState> states;
  for (const Sequence& sequence : sequences) {
    ESPALIER_ASSIGN_OR_RETURN(HiddenState state,
                              engine_->Embed(outer_, std::span(&sequence.inputs, 1)));
    states.push_back(std::move(state));
  }
  return states;
}

absl::Status StreamedModels::RunBlock(const v1::Task& task, const std::atomic<bool>& cancelled,
                                      int block, std::vector<HiddenState>& states) {
  ESPALIER_ASSIGN_OR_RETURN(const auto loaded, LoadBlock(task, block));
  for (HiddenState& state : states) {
    if (cancelled) return Cancelled();
    engine_->Run(*loaded, state);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<HiddenState>> StreamedModels::StatesBefore(
    const v1::Task& task, const std::atomic<bool>& cancelled, int block,
    const std::vector<Sequence>& sequences) {
  int next = block;
  std::optional<std::vector<HiddenState>> states;
  for (; next >= 0 && !states; --next) {
    const std::string key = StateKey(task, next);
    const auto found =
        std::find_if(kept_.begin(), kept_.end(), [&](const Kept& kept) { return kept.key == key; });
    if (found == kept_.end()) continue;
    // A file may have changed meanwhile: only the same tokens count.
    const bool same =
        std::equal(found->states.begin(), found->states.end(), sequences.begin(), sequences.end(),
                   [](const HiddenState& a, const Sequence& b) { return a.tokens == b.inputs; });
    if (same) states = std::move(found->states);
    kept_.erase(found);
  }
  ++next;
  if (!states) {
    ESPALIER_ASSIGN_OR_RETURN(states, Embed(sequences));
  }
  for (; next < block; ++next) {
    ESPALIER_RETURN_IF_ERROR(RunBlock(task, cancelled, next, *states));
  }
  return *std::move(states);
}

void StreamedModels::Keep(std::string key, std::vector<HiddenState> states) {
  Kept kept{std::move(key), std::move(states)};
  for (const HiddenState& state : kept.states) {
    kept.bytes += state.values.size() * static_cast<int64_t>(sizeof(float));
  }
  if (kept.bytes > kKeptStateBytes) return;
  int64_t total = kept.bytes;
  for (const Kept& other : kept_) total += other.bytes;
  while (total > kKeptStateBytes) {
    total -= kept_.front().bytes;
    kept_.pop_front();
  }
  kept_.push_back(std::move(kept));
}

absl::StatusOr<Observed> StreamedModels::Observe(LocalData& data, const v1::Task& task,
                                                 const std::atomic<bool>& cancelled) {
  const v1::ActivationStatisticsTask& asked = task.activation_statistics();
  ESPALIER_RETURN_IF_ERROR(Prepare(task));
  if (asked.block() < 0 || asked.block() >= task.model().language().blocks_size()) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH", fmt::format("expected a block of the model, found {}", asked.block()));
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<Sequence> sequences,
                            Sequences(data, task, /*test=*/false));
  ESPALIER_ASSIGN_OR_RETURN(std::vector<HiddenState> states,
                            StatesBefore(task, cancelled, asked.block(), sequences));
  ESPALIER_ASSIGN_OR_RETURN(const auto loaded, LoadBlock(task, asked.block()));
  Collector collector(asked);
  for (const HiddenState& state : states) {
    if (cancelled) return Cancelled();
    engine_->Observe(*loaded, state, [&collector](const language::LinearInput& input) {
      collector.Observe(input);
    });
    ESPALIER_RETURN_IF_ERROR(collector.status());
  }
  ESPALIER_ASSIGN_OR_RETURN(std::string sums,
                            collector.Finish(static_cast<int64_t>(sequences.size())));
  Keep(StateKey(task, asked.block()), std::move(states));
  return Observed{static_cast<int64_t>(sequences.size()), std::move(sums)};
}

absl::StatusOr<Partial> StreamedModels::Evaluate(LocalData& data, const v1::Task& task,
                                                 const std::atomic<bool>& cancelled) {
  ESPALIER_RETURN_IF_ERROR(Prepare(task));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<Sequence> sequences,
                            Sequences(data, task, /*test=*/true));
  const int64_t state_bytes =
      engine_->config().hidden * engine_->stride() * static_cast<int64_t>(sizeof(float));
  const auto group = static_cast<size_t>(std::max<int64_t>(1, kGroupBytes / state_bytes));
  double loss = 0;
  int64_t predicted = 0;
  int64_t correct = 0;
  for (size_t begin = 0; begin < sequences.size(); begin += group) {
    const std::vector<Sequence> part(
        sequences.begin() + static_cast<int64_t>(begin),
        sequences.begin() + static_cast<int64_t>(std::min(sequences.size(), begin + group)));
    ESPALIER_ASSIGN_OR_RETURN(std::vector<HiddenState> states, Embed(part));
    for (int block = 0; block < task.model().language().blocks_size(); ++block) {
      ESPALIER_RETURN_IF_ERROR(RunBlock(task, cancelled, block, states));
    }
    for (size_t i = 0; i < part.size(); ++i) {
      ESPALIER_ASSIGN_OR_RETURN(const auto losses,
                                engine_->Losses(outer_, states[i], part[i].targets));
      loss += losses.front().nll_sum;
      predicted += losses.front().predicted;
      correct += losses.front().correct;
    }
  }
  Partial partial;
  partial.header.set_examples(predicted);
  partial.header.set_loss_sum(loss);
  partial.header.set_correct(correct);
  return partial;
}

}  // namespace espalier::worker::tasks
