#include "server/jobs/questions/prediction.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/wire/model_spec/evaluation_counts.h"
#include "common/wire/model_spec/transformer.h"

namespace espalier::server::jobs {
namespace {

absl::Status InvalidExamples(const std::string& message) {
  return base::InvalidArgument("INVALID_EXAMPLES", message);
}

// What an example of this model has to be, where the model alone says it.
absl::Status CheckForm(const v1::Example& example, const v1::ModelSpec& model) {
  const bool pair = !example.user().empty() && !example.item().empty();
  const bool tokens = !example.tokens().empty();
  if (model.has_recommender() && !pair) {
    return InvalidExamples(
        "expected a user and an item in each example for a recommender; set "
        "both, or ask Recommend for the best items");
  }
  if (model.has_transformer() && !tokens) {
    return InvalidExamples(
        "expected tokens in each example for a language model, found none; "
        "encode the text with the model's tokenizer, of bytes their values");
  }
  const bool other = !model.has_recommender() && !model.has_transformer();
  if (other && (tokens || !example.user().empty() || !example.item().empty())) {
    return InvalidExamples(
        "expected values, cells or an image in each example, found tokens or a "
        "user and an item, which are for other models");
  }
  return absl::OkStatus();
}

absl::Status CheckAmount(const char* what, int64_t examples, int64_t each, int64_t most,
                         const char* fix) {
  if (examples * each <= most) return absl::OkStatus();
  return base::InvalidArgument(
      "TOO_MANY_PREDICTIONS",
      fmt::format("expected at most {} {} in all, found {} examples of {}; {}", most, what,
                  examples, each, fix));
}

int64_t OutputsOf(const v1::ModelSpec& model) {
  return model.has_recommender() ? 1 : wire::ClassesOf(model);
}

std::string NameOf(const AskedModel& model, int64_t place) {
  const v1::Agreement& agreement = model.data.agreement();
  const auto& classes =
      agreement.target_columns().empty() ? agreement.classes() : agreement.target_columns();
  return place < classes.size() ? classes.Get(static_cast<int>(place)) : std::to_string(place);
}

}  // namespace

absl::Status CheckPredict(const v1::PredictRequest& request) {
  const int count = request.examples().examples_size();
  if (count < 1 || count > kMostPredictedExamples) {
    return InvalidExamples(fmt::format("expected 1 to {} examples, found {}; ask several times",
                                       kMostPredictedExamples, count));
  }
  if (request.examples().ByteSizeLong() > kMostRequestBytes) {
    return InvalidExamples(
        fmt::format("expected examples of at most {} bytes, found {}; ask for "
                    "fewer at once",
                    kMostRequestBytes, request.examples().ByteSizeLong()));
  }
  if (request.top() >= 0) return absl::OkStatus();
  return InvalidExamples(fmt::format("expected top of 0 or more, found {}", request.top()));
}

absl::Status PreparePredict(const v1::PredictRequest& request, const AskedModel& model,
                            round::StepPlan& plan) {
  for (const v1::Example& example : request.examples().examples()) {
    ESPALIER_RETURN_IF_ERROR(CheckForm(example, model.ref.spec()));
  }
  const int64_t examples = request.examples().examples_size();
  const int64_t outputs = OutputsOf(model.ref.spec());
  const int64_t shown = request.top() > 0 ? std::min<int64_t>(request.top(), outputs) : outputs;
  ESPALIER_RETURN_IF_ERROR(
      CheckAmount("outputs", examples, outputs, kMostOutputs, "ask for fewer examples at once"));
  ESPALIER_RETURN_IF_ERROR(CheckAmount("numbers in the answer", examples, shown, kMostAnswered,
                                       "set top, or ask for fewer examples at once"));
  *plan.task.mutable_predict()->mutable_examples() = request.examples();
  return absl::OkStatus();
}

v1::PredictResponse PredictionsOf(const v1::PredictRequest& request, const AskedModel& model,
                                  std::span<const float> outputs) {
  const v1::ModelSpec& spec = model.ref.spec();
  const int64_t width = OutputsOf(spec);
  v1::PredictResponse response;
  if (spec.has_recommender()) response.add_outputs("score");
  const bool named = !spec.has_recommender() && !spec.has_transformer();
  for (int64_t i = 0; named && i < width; ++i) response.add_outputs(NameOf(model, i));
  std::vector<int32_t> order(static_cast<size_t>(width));
  for (; !outputs.empty(); outputs = outputs.subspan(static_cast<size_t>(width))) {
    const std::span<const float> of = outputs.first(static_cast<size_t>(width));
    v1::Prediction& prediction = *response.add_predictions();
    const auto best = std::max_element(of.begin(), of.end()) - of.begin();
    const bool has_best = spec.has_transformer() || (named && wire::LearnsClass(model.data));
    if (has_best) prediction.set_best(NameOf(model, best));
    if (request.top() == 0) {
      prediction.mutable_values()->Assign(of.begin(), of.end());
      continue;
    }
    std::iota(order.begin(), order.end(), 0);
    const auto count = std::min<int64_t>(request.top(), width);
    std::partial_sort(order.begin(), order.begin() + count, order.end(),
                      [&](int32_t a, int32_t b) { return of[a] != of[b] ? of[a] > of[b] : a < b; });
    for (int64_t i = 0; i < count; ++i) {
      prediction.add_places(order[i]);
      prediction.add_values(of[order[i]]);
    }
  }
  return response;
}

}  // namespace espalier::server::jobs
