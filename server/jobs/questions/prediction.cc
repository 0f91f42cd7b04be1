#include "server/jobs/questions/prediction.h"

#include <fmt/core.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/wire/model_spec/families/model_family.h"
#include "common/wire/model_spec/shapes.h"

namespace espalier::server::jobs {
namespace {

absl::Status InvalidExamples(const std::string& message) {
  return base::InvalidArgument("INVALID_EXAMPLES", message);
}

absl::Status CheckAmount(const char* what, int64_t examples, int64_t each, int64_t most,
                         const char* fix) {
  if (examples * each <= most) return absl::OkStatus();
  return base::InvalidArgument(
      "TOO_MANY_PREDICTIONS",
      fmt::format("expected at most {} {} in all, found {} examples of {}; {}", most, what,
                  examples, each, fix));
}

// Of one example, at most.
int64_t BytesOfAnswer(const v1::PredictRequest& request, int64_t shown,
                      const std::vector<std::string>& names) {
  constexpr int64_t kFrame = 16;
  constexpr int64_t kPlace = 5;
  size_t longest = 0;
  for (const std::string& name : names) longest = std::max(longest, name.size());
  const int64_t each = static_cast<int64_t>(sizeof(float)) + (request.top() > 0 ? kPlace : 0);
  return shown * each + static_cast<int64_t>(longest) + kFrame;
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
  const wire::ModelFamily& family = wire::FamilyOf(model.ref.spec());
  for (const v1::Example& example : request.examples().examples()) {
    ESPALIER_RETURN_IF_ERROR(family.CheckExample(example));
  }
  const int64_t examples = request.examples().examples_size();
  const int64_t outputs = family.Outputs(model.ref.spec());
  const int64_t shown = request.top() > 0 ? std::min<int64_t>(request.top(), outputs) : outputs;
  ESPALIER_RETURN_IF_ERROR(CheckAmount("inputs", examples,
                                       wire::InputShape(model.ref.spec()).features(), kMostInputs,
                                       "ask for fewer examples at once"));
  ESPALIER_RETURN_IF_ERROR(
      CheckAmount("outputs", examples, outputs, kMostOutputs, "ask for fewer examples at once"));
  ESPALIER_RETURN_IF_ERROR(CheckAmount("numbers in the answer", examples, shown, kMostAnswered,
                                       "set top, or ask for fewer examples at once"));
  ESPALIER_RETURN_IF_ERROR(
      CheckAmount("bytes in the answer", examples,
                  BytesOfAnswer(request, shown, family.OutputNames(model.ref.spec(), model.data)),
                  kMostAnswerBytes, "set top, or ask for fewer examples at once"));
  *plan.task.mutable_predict()->mutable_examples() = request.examples();
  return absl::OkStatus();
}

v1::PredictResponse PredictionsOf(const v1::PredictRequest& request, const AskedModel& model,
                                  std::span<const float> outputs) {
  const v1::ModelSpec& spec = model.ref.spec();
  const wire::ModelFamily& family = wire::FamilyOf(spec);
  const int64_t width = family.Outputs(spec);
  const std::vector<std::string> names = family.OutputNames(spec, model.data);
  const bool has_best = family.LargestIsBest(model.data);
  v1::PredictResponse response;
  response.mutable_outputs()->Assign(names.begin(), names.end());
  std::vector<int32_t> order(static_cast<size_t>(width));
  for (; !outputs.empty(); outputs = outputs.subspan(static_cast<size_t>(width))) {
    const std::span<const float> of = outputs.first(static_cast<size_t>(width));
    v1::Prediction& prediction = *response.add_predictions();
    const auto best = std::max_element(of.begin(), of.end()) - of.begin();
    if (has_best) prediction.set_best(names.empty() ? std::to_string(best) : names[best]);
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
