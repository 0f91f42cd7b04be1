// Plain text or JSON lines: a small transformer that predicts the next byte.
#include <algorithm>

#include "client/cli/format.h"
#include "client/cli/init/draft.h"
#include "client/cli/init/sections.h"
#include "client/cli/init/shell.h"
#include "client/json/json.h"
#include "common/base/names.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

constexpr int64_t kContext = 64;
constexpr int64_t kBytes = 256;  // different bytes
constexpr int64_t kRounds = 30;
constexpr int64_t kBatch = 16;

std::string Model(int64_t vocabulary) {
  return fmt::format(
      "model:\n"
      "  # {}. A larger text carries more: hidden: 128 and\n"
      "  # blocks: 4 take about six times as long.\n"
      "  transformer: {{vocabulary: {}, hidden: 64, blocks: 2, heads: 4}}",
      vocabulary == kBytes ? "The vocabulary are the 256 bytes"
                           : "The vocabulary are the token numbers that occur",
      vocabulary);
}

std::string DataSection(const Source& source, const Wishes& wishes, const v1::DatasetInfo& info,
                        int shards) {
  std::string text = fmt::format(
      "data:\n"
      "  dataset: {}\n"
      "  text: {{context: {}{}}}  # tokens that the model sees at once; here each byte is one\n",
      YamlName(source.name), kContext,
      wishes.field.empty() ? "" : ", field: " + client::QuotedText(wishes.field));
  text += HoldOutLine(info, 0.1);
  text += "  test_limit: 500  # of the examples for testing, to keep evaluations short; 0 = all\n";
  return text + PartitionSection(shards, /*classes=*/false);
}

std::string Training(int64_t steps) {
  return fmt::format(
      "training:\n"
      "  batch_size: {}\n"
      "  local_steps: {}  # minibatches of each share in a round\n"
      "  # Adam suits transformers; what it knows of each weight is averaged like the weights.\n"
      "  optimizer: {{kind: adam, learning_rate: 0.005, across_rounds: average}}\n"
      "  schedule: {{kind: cosine}}\n"
      "federation:\n"
      "  rounds: {}  # ten times as many make a better model of a long text",
      kBatch, steps, kRounds);
}

}  // namespace

absl::StatusOr<Draft> TextJob(const Source& source, const Wishes& wishes, const Looker& look) {
  v1::DataSpec view;
  view.mutable_text()->set_context(kContext);
  view.mutable_text()->set_field(wishes.field);
  ESPALIER_ASSIGN_OR_RETURN(const Look seen, look(&view));
  const v1::DatasetInfo& info = seen.info;
  if (!info.problem().empty()) return Unusable(info.problem());
  if (info.train_bytes() == 0) return TooLarge();
  ESPALIER_ASSIGN_OR_RETURN(const MethodChoice method,
                            ChooseMethod(wishes.method, 0.3, {"rigl", "set", "static", "dense"}));
  // A short text gives fewer examples than there are workers.
  const auto most = static_cast<int>(std::max<int64_t>(1, info.train_examples() / 4));
  const int shards = info.train_examples() > 0 ? std::min(wishes.workers, most) : wishes.workers;
  Draft draft;
  draft.dataset = info;
  draft.rounds = kRounds;
  const std::string bytes = HumanBytes(info.train_bytes());
  draft.findings.push_back(
      info.test_bytes() > 0
          ? fmt::format("It is text: {} for training and {} for testing.", bytes,
                        HumanBytes(info.test_bytes()))
          : fmt::format(
                "It is text: {}. There is no test file: the last tenth is kept for testing.",
                bytes));
  draft.findings.emplace_back(
      "The model learns to predict the next byte; perplexity says among how many bytes it "
      "wavers, 256 before it learns.");
  draft.file = fmt::format("{}\ndisplay_name: {}, {}\n{}\n{}\n{}\n{}\n{}\nseed: 1\n",
                           Heading(source, "text, " + bytes), source.name, method.name,
                           Model(std::max(kBytes, info.classes())),
                           DataSection(source, wishes, info, shards), method.section, Training(20),
                           EvaluationSection(5));
  draft.afterwards.push_back(
      {fmt::format("espalier generate {}-{} --tokenizer bytes --prompt \"The \"",
                   base::IdLike(source.name), kRounds),
       "let it write"});
  return draft;
}

}  // namespace espalier::cli::init
