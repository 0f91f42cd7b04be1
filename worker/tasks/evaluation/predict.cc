// Task kind `predict`: what a network says of examples that come with the task.
#include "worker/tasks/evaluation/predict.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <span>

#include "common/base/status.h"
#include "common/wire/model_spec/shapes.h"
#include "worker/data/errors.h"
#include "worker/data/prediction/prediction.h"
#include "worker/tasks/batch_buffer.h"

namespace espalier::worker::tasks {
namespace {

constexpr int64_t kBatch = 64;

// Tokens of one example, filled up to the model's context: what follows does not reach them.
absl::StatusOr<std::vector<float>> PaddedTokens(const v1::Example& example, int number,
                                                int64_t context, int64_t vocabulary) {
  const auto complain = [&](std::string expected, std::string found, const char* fix) {
    return data::DatasetInvalid("the request", {fmt::format("example {}", number),
                                                std::move(expected), std::move(found), fix});
  };
  const auto& tokens = example.tokens();
  if (tokens.empty() || tokens.size() > context) {
    return complain(fmt::format("1 to {} tokens, the model's context", context),
                    fmt::format("{}", tokens.size()), "give the last tokens of the text");
  }
  std::vector<float> padded(static_cast<size_t>(context));
  for (int i = 0; i < tokens.size(); ++i) {
    if (tokens.Get(i) >= vocabulary) {
      return complain(fmt::format("tokens below {}", vocabulary), fmt::format("{}", tokens.Get(i)),
                      "encode the text with the tokenizer that the model was trained with");
    }
    padded[static_cast<size_t>(i)] = static_cast<float>(tokens.Get(i));
  }
  return padded;
}

}  // namespace

int64_t InputFeatures(const v1::ModelSpec& model) { return wire::InputShape(model).features(); }

absl::StatusOr<std::vector<float>> PredictRows(
    NetworkCache& networks, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model, const data::Dataset& dataset,
    const std::atomic<bool>& cancelled) {
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network,
                            networks.Get(task, model, static_cast<int>(kBatch)));
  BatchBuffer buffer(task, dataset.features(), network->batch_stride());
  std::vector<int32_t> rows(static_cast<size_t>(dataset.size()));
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<int64_t> columns(kBatch);
  std::iota(columns.begin(), columns.end(), int64_t{0});
  std::vector<float> outputs(rows.size() * static_cast<size_t>(network->outputs()));
  std::span<float> rest = outputs;
  for (size_t begin = 0; begin < rows.size(); begin += kBatch) {
    if (cancelled) return Cancelled();
    const size_t count = std::min<size_t>(kBatch, rows.size() - begin);
    const size_t size = count * static_cast<size_t>(network->outputs());
    network->Predict(buffer.Fill(dataset, std::span(rows).subspan(begin, count)),
                     std::span(columns).first(count), rest.first(size));
    rest = rest.subspan(size);
  }
  return outputs;
}

absl::StatusOr<std::vector<float>> PredictTokens(
    NetworkCache& networks, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model, const v1::Examples& examples,
    const std::atomic<bool>& cancelled) {
  const int64_t context = PredictionsPerExample(task);
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network, networks.Get(task, model, 1));
  BatchBuffer buffer(task, context, network->batch_stride());
  const auto width = static_cast<size_t>(network->outputs());
  std::vector<float> outputs(static_cast<size_t>(examples.examples_size()) * width);
  for (int i = 0; i < examples.examples_size(); ++i) {
    if (cancelled) return Cancelled();
    const v1::Example& example = examples.examples(i);
    ESPALIER_ASSIGN_OR_RETURN(const std::vector<float> tokens,
                              PaddedTokens(example, i + 1, context, network->outputs()));
    std::ranges::copy(tokens, buffer.values.data());
    const int64_t last = example.tokens_size() - 1;
    network->Predict({buffer.values.data(), buffer.labels.data(), context, buffer.stride},
                     std::span(&last, 1),
                     std::span(outputs).subspan(static_cast<size_t>(i) * width, width));
  }
  return outputs;
}

absl::StatusOr<Partial> RunPredict(Surroundings& surroundings, const v1::Task& task,
                                   const std::shared_ptr<const tensor::ModelState>& model) {
  const v1::Examples& examples = task.predict().examples();
  std::vector<float> outputs;
  if (task.model().spec().has_transformer()) {
    ESPALIER_ASSIGN_OR_RETURN(outputs, PredictTokens(surroundings.networks, task, model, examples,
                                                     surroundings.cancelled));
  } else {
    ESPALIER_ASSIGN_OR_RETURN(
        const data::Dataset dataset,
        data::EncodeExamples(examples, task.data(), InputFeatures(task.model().spec()),
                             {.cancelled = &surroundings.cancelled}));
    ESPALIER_ASSIGN_OR_RETURN(
        outputs, PredictRows(surroundings.networks, task, model, dataset, surroundings.cancelled));
  }
  Partial partial;
  partial.header.set_examples(examples.examples_size());
  AddSection(v1::SECTION_KIND_PREDICTIONS, outputs, partial);
  return partial;
}

}  // namespace espalier::worker::tasks
