#include "client/dashboard/parameters.h"

#include <algorithm>
#include <array>
#include <limits>
#include <span>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"
#include "fmt/ranges.h"

namespace espalier::dashboard {
namespace {

using client::Json;

// No body of ours has lists or objects within.
constexpr int kMostDepth = 4;

std::string Shown(std::string_view value) {
  constexpr size_t kMost = 100;
  return base::PrintablePrefix(value, kMost, {.with_backslash = "\""});
}

absl::Status Invalid(std::string_view name, std::string_view expected, std::string_view found) {
  return base::InvalidArgument("PARAMETER_INVALID", fmt::format("{}: expected {}, found \"{}\"",
                                                                name, expected, Shown(found)));
}

absl::Status InvalidBody(const std::string& message) {
  return base::InvalidArgument("BODY_INVALID", message);
}

absl::Status ExpectKeys(const Json& body, std::span<const std::string_view> known) {
  for (const auto& [key, value] : body.items()) {
    if (std::find(known.begin(), known.end(), key) != known.end()) continue;
    return InvalidBody(fmt::format(
        "the body: expected {}, found the key \"{}\"",
        known.empty() ? std::string("{}") : fmt::format("only the keys {}", fmt::join(known, ", ")),
        Shown(key)));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> TextAt(const Json& body, const char* key) {
  const auto found = body.find(key);
  if (found == body.end()) return std::string();
  if (found->is_string()) return found->get<std::string>();
  return InvalidBody(fmt::format("{}: expected a text, found {}", key, found->type_name()));
}

}  // namespace

absl::StatusOr<int64_t> NumberAt(const Target& target, std::string_view name, int64_t low,
                                 int64_t high, int64_t otherwise) {
  const auto text = target.Value(name);
  if (!text.has_value() || text->empty()) return otherwise;
  int64_t number = 0;
  const bool whole = absl::SimpleAtoi(*text, &number) && absl::StrCat(number) == *text;
  if (whole && number >= low && number <= high) return number;
  return Invalid(name, fmt::format("a whole number from {} to {}", low, high), *text);
}

absl::StatusOr<v1::ListJobsRequest> ListJobsOf(const Target& target) {
  constexpr int64_t kMostPerPage = 1000;
  v1::ListJobsRequest request;
  ESPALIER_ASSIGN_OR_RETURN(const int64_t size, NumberAt(target, "page_size", 0, kMostPerPage, 0));
  request.set_page_size(static_cast<int32_t>(size));
  request.set_page_token(target.Value("page_token").value_or(""));
  for (const std::string& word : target.Values("state")) {
    v1::Job::State state = v1::Job::STATE_UNSPECIFIED;
    if (!v1::Job::State_Parse("STATE_" + word, &state) || state == v1::Job::STATE_UNSPECIFIED) {
      return Invalid("state",
                     "PENDING, RUNNING, PAUSED, CANCELLING, CANCELLED, SUCCEEDED or FAILED", word);
    }
    request.add_states(state);
  }
  request.set_method(target.Value("method").value_or(""));
  request.set_contains(target.Value("contains").value_or(""));
  if (const auto word = target.Value("order"); word.has_value() && !word->empty()) {
    v1::ListJobsRequest::Order order = v1::ListJobsRequest::ORDER_UNSPECIFIED;
    if (!v1::ListJobsRequest::Order_Parse("ORDER_" + *word, &order)) {
      return Invalid("order", "NEWEST, OLDEST or NAME", *word);
    }
    request.set_order(order);
  }
  return request;
}

absl::StatusOr<v1::GetTopologyRequest> TopologyOf(const Target& target) {
  constexpr int64_t kMostBins = 512;
  v1::GetTopologyRequest request;
  ESPALIER_ASSIGN_OR_RETURN(const int64_t bins, NumberAt(target, "bins", 1, kMostBins, 0));
  request.set_bins(static_cast<int32_t>(bins));
  request.set_checkpoint("checkpoints/" + target.Value("checkpoint").value_or(""));
  request.set_tensor(target.Value("tensor").value_or(""));
  const std::string before = target.Value("compare_to").value_or("");
  if (!before.empty()) request.set_compare_to("checkpoints/" + before);
  return request;
}

absl::StatusOr<v1::GetRoundProgressRequest> RoundProgressOf(const Target& target) {
  constexpr int64_t kMostRounds = std::numeric_limits<int32_t>::max();
  v1::GetRoundProgressRequest request;
  ESPALIER_ASSIGN_OR_RETURN(const int64_t round, NumberAt(target, "round", 0, kMostRounds, 0));
  request.set_round(static_cast<int32_t>(round));
  request.set_run(target.Value("run").value_or(""));
  return request;
}

absl::StatusOr<int64_t> AfterOf(const Target& target, const std::string& last_event_id) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max() - 1;
  if (last_event_id.empty()) return NumberAt(target, "after", 0, kMost, 0);
  Target header;
  header.query.emplace_back("Last-Event-ID", last_event_id);
  return NumberAt(header, "Last-Event-ID", 0, kMost, 0);
}

absl::StatusOr<Json> ObjectOf(const std::string& body) {
  if (body.empty()) return Json::object();
  bool deep = false;
  // Whatever is deeper is left out while it is read.
  const Json::parser_callback_t flat = [&deep](int depth, Json::parse_event_t, Json&) {
    deep = deep || depth > kMostDepth;
    return depth <= kMostDepth;
  };
  Json json = Json::parse(body, flat, false);
  if (json.is_object() && !deep) return json;
  return InvalidBody(
      fmt::format("the body: expected a JSON object such as {{}}, found \"{}\"", Shown(body)));
}

absl::Status ExpectNothing(const Json& body) { return ExpectKeys(body, {}); }

absl::StatusOr<JobSubmission> SubmissionOf(const Json& body) {
  constexpr std::array<std::string_view, 3> kKeys = {"file", "job_id", "validate_only"};
  ESPALIER_RETURN_IF_ERROR(ExpectKeys(body, kKeys));
  JobSubmission submission;
  ESPALIER_ASSIGN_OR_RETURN(submission.file, TextAt(body, "file"));
  ESPALIER_ASSIGN_OR_RETURN(submission.job_id, TextAt(body, "job_id"));
  if (submission.file.empty()) {
    return InvalidBody("file: expected the text of a job file in YAML, found nothing");
  }
  if (const auto only = body.find("validate_only"); only != body.end()) {
    if (!only->is_boolean()) {
      return InvalidBody(
          fmt::format("validate_only: expected true or false, found {}", only->type_name()));
    }
    submission.validate_only = only->get<bool>();
  }
  return submission;
}

absl::StatusOr<v1::RecommendRequest> RecommendOf(const Json& body) {
  constexpr std::array<std::string_view, 4> kKeys = {"checkpoint", "user", "k", "dataset"};
  ESPALIER_RETURN_IF_ERROR(ExpectKeys(body, kKeys));
  v1::RecommendRequest request;
  ESPALIER_ASSIGN_OR_RETURN(*request.mutable_checkpoint(), TextAt(body, "checkpoint"));
  ESPALIER_ASSIGN_OR_RETURN(*request.mutable_user(), TextAt(body, "user"));
  ESPALIER_ASSIGN_OR_RETURN(*request.mutable_dataset(), TextAt(body, "dataset"));
  if (const auto k = body.find("k"); k != body.end()) {
    constexpr int64_t kMostItems = 1000;
    const bool whole = k->is_number_integer();
    if (!whole || k->get<double>() < 0 || k->get<double>() > kMostItems) {
      return InvalidBody("k: expected a whole number from 1 to 1000, found " + Shown(k->dump()));
    }
    request.set_k(k->get<int32_t>());
  }
  return request;
}

}  // namespace espalier::dashboard
