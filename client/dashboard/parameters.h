// Parameters of calls: from the query of a path and the JSON of a body to requests.
//
// Errors:    InvalidArgument PARAMETER_INVALID or BODY_INVALID, which name what is wrong.
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "client/dashboard/http/target.h"
#include "client/json/json.h"
#include "espalier/v1/checkpoint.pb.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/progress.pb.h"
#include "espalier/v1/structure.pb.h"

namespace espalier::dashboard {

// A whole number from `low` to `high`; `otherwise` where it is not given.
absl::StatusOr<int64_t> NumberAt(const Target& target, std::string_view name, int64_t low,
                                 int64_t high, int64_t otherwise);

// page_size, page_token, state (several), method, contains, order.
absl::StatusOr<v1::ListJobsRequest> ListJobsOf(const Target& target);

// checkpoint, tensor, bins, compare_to. Checkpoints are named without "checkpoints/".
absl::StatusOr<v1::GetTopologyRequest> TopologyOf(const Target& target);

// round, run. The job is not set.
absl::StatusOr<v1::GetRoundProgressRequest> RoundProgressOf(const Target& target);

// The number after which events are wanted: of the header Last-Event-ID if it is there, else of `after`.
absl::StatusOr<int64_t> AfterOf(const Target& target, const std::string& last_event_id);

// A body that is a JSON object.
absl::StatusOr<client::Json> ObjectOf(const std::string& body);
// Each is an error where the object has another key.
absl::Status ExpectNothing(const client::Json& body);
struct JobSubmission {
  std::string file;
  std::string job_id;
  bool validate_only = false;
};
absl::StatusOr<JobSubmission> SubmissionOf(const client::Json& body);
absl::StatusOr<v1::RecommendRequest> RecommendOf(const client::Json& body);

}  // namespace espalier::dashboard
