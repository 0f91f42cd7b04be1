// Worker policies: which jobs a worker does tasks of, by submitter, method and data set.
//
//     allow:
//       - submitters: [ada, bob]
//         datasets: [ward-7]
//       - methods: [set, fedtiny]
//         datasets: [public-digits]
//
// A rule allows a job that fits all lists that it has; a job is allowed by one rule that does. A list
// that is left out fits every job; one without names is refused in a file, since it could be meant
// either way. `allow: []` allows nothing.
//
// The worker checks each task by the same functions by which the coordinator plans: what one of them
// allows, the other does.
//
// Limits:    kMaxPolicyRules rules with kMaxPolicyNames names in all.
// Threading, determinism: pure functions.
// Errors:    InvalidArgument INVALID_POLICY, with the lines of a file.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::config {

inline constexpr int kMaxPolicyRules = 256;
inline constexpr int kMaxPolicyNames = 4096;

// What a policy looks at.
struct JobTraits {
  std::string submitter;  // "" where the cluster does not know its users
  std::string method;
  std::string dataset;  // "" where there is none
};
JobTraits TraitsOf(const v1::Task& task);

// What of a job the policy does not allow, for a sentence: "jobs of 'bob'", "jobs of method 'set'",
// "jobs about data set 'digits'"; "" where it allows the job.
std::string RefusedBy(const v1::WorkerPolicy& policy, const JobTraits& job);
// For a sentence about who could do the job: "; 3 workers have data set 'toy' and do not allow jobs
// of 'bob'", or "". `refusals`: how many workers refuse what.
std::string AndRefusing(const std::map<std::string, int>& refusals, const std::string& dataset);
// Whether some job about this data set could be allowed.
bool MayAllowDataset(const v1::WorkerPolicy& policy, std::string_view dataset);

// Of a policy from anywhere: limits, and names that could be names. "" where nothing is wrong with
// it, else what was expected and found.
std::string ProblemOf(const v1::WorkerPolicy& policy);

// `file` is for messages.
absl::StatusOr<v1::WorkerPolicy> ParseWorkerPolicy(std::string_view text, const std::string& file);

}  // namespace espalier::config
