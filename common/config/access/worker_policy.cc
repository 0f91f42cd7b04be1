#include "common/config/access/worker_policy.h"

#include <algorithm>
#include <vector>

#include "common/base/names.h"
#include "common/base/status.h"
#include "common/config/access/access_file.h"
#include "common/config/message_reader.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::config {
namespace {

using Names = google::protobuf::RepeatedPtrField<std::string>;

bool Fits(const Names& names, std::string_view name) {
  return names.empty() || std::ranges::find(names, name) != names.end();
}

// One of the lists of a rule: what it is called, what is in it, and what its names look like.
struct List {
  const char* field;
  const Names& names;
  bool (*is_name)(std::string_view);
  const char* looks;
};

constexpr char kIdLooks[] =
    "a name of 1 to 63 lower-case letters, digits and '-', beginning with a letter";

std::vector<List> ListsOf(const v1::WorkerPolicy::Rule& rule) {
  return {{"submitters", rule.submitters(), base::IsValidId, kIdLooks},
          {"methods", rule.methods(), base::IsValidId, kIdLooks},
          {"datasets", rule.datasets(), base::IsDatasetName,
           "the name of a data set: 1 to 63 lower-case letters, digits, '-', '_' and '.'"}};
}

// The first thing that is wrong: where, and what.
Violation FirstProblem(const v1::WorkerPolicy& policy) {
  if (policy.allow_size() > kMaxPolicyRules) {
    return {"allow", fmt::format("expected at most {} rules, found {}; put names that share a rule "
                                 "into its lists",
                                 kMaxPolicyRules, policy.allow_size())};
  }
  int names = 0;
  for (int i = 0; i < policy.allow_size(); ++i) {
    for (const List& list : ListsOf(policy.allow(i))) {
      names += list.names.size();
      for (int at = 0; at < list.names.size(); ++at) {
        if (list.is_name(list.names[at])) continue;
        return {fmt::format("allow[{}].{}[{}]", i, list.field, at),
                fmt::format("expected {}, found {}", list.looks, Quoted(list.names[at]))};
      }
    }
  }
  if (names <= kMaxPolicyNames) return {};
  return {"allow", fmt::format("expected at most {} names in all rules, found {}; leave a list out "
                               "where every name would do",
                               kMaxPolicyNames, names)};
}

// Lists that stand in the file without a name in them.
void CheckEmptyLists(const v1::WorkerPolicy& policy, const std::map<std::string, int>& lines,
                     std::vector<Violation>& violations) {
  for (int i = 0; i < policy.allow_size(); ++i) {
    for (const List& list : ListsOf(policy.allow(i))) {
      const std::string path = fmt::format("allow[{}].{}", i, list.field);
      const auto line = lines.find(path);
      if (!list.names.empty() || line == lines.end()) continue;
      violations.push_back({path, fmt::format("line {}: expected at least one name, found none; "
                                              "leave the list out where every name would do",
                                              line->second)});
    }
  }
}

}  // namespace

JobTraits TraitsOf(const v1::Task& task) {
  return {task.submitter(), task.method(), task.data().dataset()};
}

std::string RefusedBy(const v1::WorkerPolicy& policy, const JobTraits& job) {
  bool dataset_fits = false;
  bool submitter_fits = false;
  for (const v1::WorkerPolicy::Rule& rule : policy.allow()) {
    if (!Fits(rule.datasets(), job.dataset)) continue;
    dataset_fits = true;
    if (!Fits(rule.submitters(), job.submitter)) continue;
    submitter_fits = true;
    if (Fits(rule.methods(), job.method)) return "";
  }
  if (submitter_fits) return "jobs of method '" + job.method + "'";
  if (dataset_fits && job.submitter.empty()) return "jobs without an owner";
  if (dataset_fits) return "jobs of '" + job.submitter + "'";
  return job.dataset.empty() ? "jobs without a data set"
                             : "jobs about data set '" + job.dataset + "'";
}

std::string AndRefusing(const std::map<std::string, int>& refusals, const std::string& dataset) {
  std::string text;
  for (const auto& [refused, count] : refusals) {
    const bool one = count == 1;
    text += fmt::format("; {} {}", count, one ? "worker" : "workers");
    if (!dataset.empty())
      text += fmt::format(" {} data set '{}' and", one ? "has" : "have", dataset);
    text += fmt::format(" {} not allow {}", one ? "does" : "do", refused);
  }
  return text;
}

bool MayAllowDataset(const v1::WorkerPolicy& policy, std::string_view dataset) {
  return std::ranges::any_of(policy.allow(),
                             [&](const auto& rule) { return Fits(rule.datasets(), dataset); });
}

std::string ProblemOf(const v1::WorkerPolicy& policy) {
  const Violation problem = FirstProblem(policy);
  return problem.description.empty() ? "" : problem.field + ": " + problem.description;
}

absl::StatusOr<v1::WorkerPolicy> ParseWorkerPolicy(std::string_view text, const std::string& file) {
  constexpr char kReason[] = "INVALID_POLICY";
  v1::WorkerPolicy policy;
  std::vector<Violation> violations;
  const YamlNode root = ParseAccessFile(
      text, "a map with the list allow, whose rules have submitters, methods and datasets",
      violations);
  std::map<std::string, int> lines;
  if (violations.empty()) MessageReader(&lines, violations).Read(root, "", policy);
  if (violations.empty() && !lines.contains("allow")) {
    violations.push_back({"", "expected the list allow, found none; `allow: []` allows nothing"});
  }
  CheckEmptyLists(policy, lines, violations);
  if (violations.empty()) {
    Violation problem = FirstProblem(policy);
    const auto line = lines.find(problem.field);
    if (line != lines.end()) {
      problem.description = fmt::format("line {}: {}", line->second, problem.description);
    }
    if (!problem.description.empty()) violations.push_back(std::move(problem));
  }
  ESPALIER_RETURN_IF_ERROR(AccessFileStatus(file, kReason, violations));
  return policy;
}

}  // namespace espalier::config
