#include "server/methods/pruning/evaluation.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/io/byte_codec.h"
#include "server/methods/evaluation/metrics.h"

namespace espalier::server::methods {
namespace {

constexpr int32_t kMinBatchSize = 128;

}  // namespace

Step EvaluationStep(const v1::JobSpec& spec, int32_t round) {
  Step step;
  const bool everybody = spec.evaluation().federated();
  v1::EvaluateTask& task = *step.task.mutable_evaluate();
  const int32_t least = spec.model().has_input_image() ? 1 : kMinBatchSize;
  task.set_batch_size(std::max(spec.training().batch_size(), least));
  task.set_whole_test_split(!everybody);
  step.participants = everybody ? Participants::kAll : Participants::kAnyOne;
  step.reducer = reduce::ReducerKind::kMetrics;
  step.round = round;
  return step;
}

std::optional<Score> ScoreOf(const reduce::Reduced& reduced) {
  if (reduced.examples == 0) return std::nullopt;
  const auto examples = static_cast<double>(reduced.examples);
  return Score{reduced.loss_sum / examples, static_cast<double>(reduced.correct) / examples};
}

void SetScore(const v1::JobSpec& spec, const std::optional<Score>& score, bool language,
              v1::RoundSummary& summary) {
  if (!score) return;
  std::vector<v1::Metric> metrics(2);
  metrics[0].set_name("accuracy");
  metrics[0].set_value(score->accuracy);
  metrics[1].set_name("loss");
  metrics[1].set_value(score->loss);
  if (language && std::isfinite(std::exp(score->loss))) {
    metrics.emplace_back().set_name("perplexity");
    metrics.back().set_value(std::exp(score->loss));
  }
  SetMetrics(spec, metrics, /*central=*/true, summary);
  summary.set_test_loss(score->loss);
  summary.set_test_accuracy(score->accuracy);
  if (language) summary.set_perplexity(std::exp(score->loss));
}

void SetDenseScore(const std::optional<Score>& score, bool language, v1::RoundSummary& summary) {
  if (!score) return;
  summary.set_dense_test_loss(score->loss);
  summary.set_dense_test_accuracy(score->accuracy);
  if (language) summary.set_dense_perplexity(std::exp(score->loss));
}

std::string EncodeScore(const std::optional<Score>& score) {
  std::string bytes;
  if (!score) return bytes;
  io::ByteWriter writer(bytes);
  writer.Put(score->loss);
  writer.Put(score->accuracy);
  return bytes;
}

std::optional<Score> DecodeScore(const std::string& bytes) {
  if (bytes.empty()) return std::nullopt;
  io::ByteReader reader(bytes);
  Score score;
  score.loss = reader.Get<double>();
  score.accuracy = reader.Get<double>();
  return score;
}

}  // namespace espalier::server::methods
