// Texts: one column of a batch for each token.
#include "worker/tasks/network/tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/wire/model_spec/transformer.h"
#include "worker/data/errors.h"
#include "worker/data/load.h"
#include "worker/language/network_spec.h"
#include "worker/tasks/network/batch_buffer.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {
namespace {

// A transformer's outputs are the tokens that it knows.
absl::Status CheckTokens(const data::Dataset& dataset, int64_t vocabulary) {
  if (dataset.num_classes() <= vocabulary) return absl::OkStatus();
  return data::DatasetInvalid(
      dataset.name(),
      {"", fmt::format("tokens below {}, as model.transformer.vocabulary says", vocabulary),
       fmt::format("token {}", dataset.num_classes() - 1),
       fmt::format(
           "set the vocabulary to {} or more (256 for text as bytes), or data.text.tokenizer "
           "to the one of this vocabulary",
           dataset.num_classes())});
}

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

int64_t TokenForm::ColumnsPerExample(const v1::Task& task) const {
  return std::max<int64_t>(1, task.data().text().context());
}

absl::StatusOr<engine::NetworkSpec> TokenForm::NetworkSpecOf(const v1::ModelSpec& model,
                                                             int64_t columns) const {
  ESPALIER_ASSIGN_OR_RETURN(const auto config, wire::ConfigOf(model.transformer(), columns));
  return language::NetworkSpecOf(config, columns);
}

absl::Status TokenForm::CheckFits(const data::Dataset& dataset, const v1::Task& task) const {
  const int64_t vocabulary = wire::ClassesOf(task.model().spec());
  ESPALIER_RETURN_IF_ERROR(CheckTokens(dataset, vocabulary));
  return data::CheckFits(dataset, task.data().text().context(), vocabulary);
}

absl::StatusOr<std::vector<float>> TokenForm::Predict(
    NetworkCache& networks, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model, const v1::Examples& examples,
    const data::LoadOptions&, const std::atomic<bool>& cancelled) const {
  const int64_t context = ColumnsPerExample(task);
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

}  // namespace espalier::worker::tasks
