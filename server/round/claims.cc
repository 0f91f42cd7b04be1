#include "server/round/claims.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "common/base/status.h"
#include "common/wire/model_spec/evaluation_counts.h"

namespace espalier::server::round {
namespace {

constexpr size_t kMaxUpdateIdBytes = 64;
constexpr int kMaxMetrics = 1000;
constexpr size_t kMaxMetricNameBytes = 64;
constexpr size_t kMaxItemBytes = 4096;
// No product of examples and losses beyond this keeps the sums of a round exact.
constexpr int64_t kMostExamplesAtAll = int64_t{1} << 39;
// A loss of one example is a float32.
constexpr double kMostLoss = std::numeric_limits<float>::max();
// Sums of shares may be a little above the number of examples by rounding.
constexpr double kRounding = 1e-6;
// Of a duration.
constexpr int64_t kMostSeconds = 315'576'000'000;
constexpr int32_t kMostNanos = 999'999'999;

absl::Status OutOfRange(const std::string& what, const std::string& expected,
                        const std::string& found) {
  return base::InvalidArgument(
      "CLAIM_OUT_OF_RANGE",
      fmt::format("{} of the result: expected {}, found {}; the training diverged, or the worker "
                  "that sent it has to be replaced",
                  what, expected, found));
}

absl::Status CheckExamples(int64_t examples, int64_t most_examples) {
  const int64_t most = most_examples > 0 ? most_examples : kMostExamplesAtAll;
  if (examples >= 0 && examples <= most) return absl::OkStatus();
  return base::InvalidArgument(
      "EXAMPLES_OUT_OF_RANGE",
      fmt::format("expected a result of 0 to {} examples, as many as the participant has, found "
                  "{}; the data on the worker changed since it connected (restart it), or it has "
                  "to be replaced",
                  most, examples));
}

// Control variates divide by the steps: too few of them would make a variate as large as one likes.
absl::Status CheckSteps(const v1::PartialHeader& header, const v1::Task& task) {
  const v1::Training& training = task.train().training();
  if (!training.control_variates()) return absl::OkStatus();
  const int64_t asked = training.local_steps();
  if (asked > 0 ? header.steps() == asked : header.steps() >= 1) return absl::OkStatus();
  return OutOfRange("local steps", asked > 0 ? std::to_string(asked) : "at least 1",
                    std::to_string(header.steps()));
}

// As protocol buffers define a duration. One that is below 0 is what a clock that was set gives.
absl::Status CheckTime(const google::protobuf::Duration& time) {
  const bool same_sign =
      (time.seconds() <= 0 || time.nanos() >= 0) && (time.seconds() >= 0 || time.nanos() <= 0);
  const bool in_range = time.seconds() >= -kMostSeconds && time.seconds() <= kMostSeconds &&
                        time.nanos() >= -kMostNanos && time.nanos() <= kMostNanos;
  if (same_sign && in_range) return absl::OkStatus();
  return OutOfRange("compute time", "a duration of at most 10,000 years",
                    fmt::format("{} s and {} ns", time.seconds(), time.nanos()));
}

absl::Status CheckMetrics(const v1::PartialHeader& header) {
  if (header.metric_sums_size() > kMaxMetrics) {
    return OutOfRange("metrics", fmt::format("at most {}", kMaxMetrics),
                      std::to_string(header.metric_sums_size()));
  }
  const double most = static_cast<double>(header.examples()) * (1 + kRounding) + kRounding;
  for (const v1::Metric& metric : header.metric_sums()) {
    if (metric.name().size() > kMaxMetricNameBytes) {
      return OutOfRange("name of a metric", fmt::format("at most {} bytes", kMaxMetricNameBytes),
                        std::to_string(metric.name().size()));
    }
    if (wire::IsUnboundedSum(metric.name()) && std::isfinite(metric.value())) continue;
    if (!(metric.value() >= -kRounding && metric.value() <= most)) {
      return OutOfRange("sum of a metric", fmt::format("0 to {}, one for each example", most),
                        std::to_string(metric.value()));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckItems(const v1::PartialHeader& header, const v1::Task& task) {
  if (header.recommended_size() > task.recommend().k()) {
    return OutOfRange("recommended items", fmt::format("at most {}", task.recommend().k()),
                      std::to_string(header.recommended_size()));
  }
  for (const v1::RecommendedItem& item : header.recommended()) {
    if (item.item().size() > kMaxItemBytes || !std::isfinite(item.score())) {
      return OutOfRange("a recommended item",
                        fmt::format("a name of at most {} bytes and a finite score", kMaxItemBytes),
                        fmt::format("{} bytes and {}", item.item().size(), item.score()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckUpdateId(const v1::PartialHeader& header) {
  if (header.update_id().empty() || header.update_id().size() > kMaxUpdateIdBytes) {
    return base::InvalidArgument("INVALID_UPDATE_ID",
                                 fmt::format("expected an update id of 1 to {} bytes, found {}",
                                             kMaxUpdateIdBytes, header.update_id().size()));
  }
  return absl::OkStatus();
}

absl::Status CheckClaims(const v1::PartialHeader& header, const v1::Task& task,
                         int64_t most_examples) {
  ESPALIER_RETURN_IF_ERROR(CheckExamples(header.examples(), most_examples));
  const auto at_least_one = static_cast<double>(std::max<int64_t>(1, header.examples()));
  if (!(std::abs(header.loss_sum()) <= at_least_one * kMostLoss)) {
    return OutOfRange("sum of losses",
                      fmt::format("{} examples times a float32 at most", header.examples()),
                      fmt::format("{}", header.loss_sum()));
  }
  if (header.correct() < 0 || header.correct() > header.examples()) {
    return OutOfRange("hits", fmt::format("0 to {}, one for each example", header.examples()),
                      std::to_string(header.correct()));
  }
  ESPALIER_RETURN_IF_ERROR(CheckSteps(header, task));
  if (header.peak_memory_bytes() < 0) {
    return OutOfRange("peak memory", "0 or more", std::to_string(header.peak_memory_bytes()));
  }
  ESPALIER_RETURN_IF_ERROR(CheckTime(header.compute_time()));
  ESPALIER_RETURN_IF_ERROR(CheckMetrics(header));
  return CheckItems(header, task);
}

}  // namespace espalier::server::round
