#include "client/cli/job_text.h"

#include <algorithm>

#include "client/lib/client.h"
#include "common/base/status.h"
#include "common/config/job_file.h"
#include "common/config/text.h"
#include "common/config/validate.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

using config::Violation;

// Whether "federation.rounds=5" or "federation=…" is where the value of `field` comes from.
bool Sets(const std::string& assignment, const std::string& field) {
  const std::string path = assignment.substr(0, assignment.find('='));
  if (!field.starts_with(path)) return false;
  return field.size() == path.size() || field[path.size()] == '.' || field[path.size()] == '[';
}

// Puts "line 12: " in front of descriptions of fields that the file has, "--set: " in front of
// those that were overridden.
void AddOrigins(const config::JobFile& file, const std::vector<std::string>& overrides,
                std::vector<Violation>& violations) {
  for (Violation& violation : violations) {
    const bool overridden = std::any_of(
        overrides.begin(), overrides.end(),
        [&](const std::string& assignment) { return Sets(assignment, violation.field); });
    const int line = file.LineOf(violation.field);
    if (overridden) {
      violation.description = fmt::format("--set: {}", violation.description);
    } else if (line > 0) {
      violation.description = fmt::format("line {}: {}", line, violation.description);
    }
  }
}

std::string Summary(const std::string& file, size_t count) {
  return fmt::format("{} has {} problem{}; see docs/reference/job-file.md", config::Quoted(file),
                     count, count == 1 ? "" : "s");
}

}  // namespace

JobText ParseJob(const std::string& text, const std::vector<std::string>& overrides) {
  JobText result;
  config::JobFile job = config::ParseJobFile(text, result.violations);
  for (const std::string& assignment : overrides) {
    config::ApplyOverride(assignment, job.spec, result.violations);
  }
  // A file that was not understood would only give follow-up mistakes.
  if (result.violations.empty()) {
    result.violations = config::ValidateJobSpec(job.spec);
    AddOrigins(job, overrides, result.violations);
  }
  result.spec = std::move(job.spec);
  return result;
}

absl::Status JobFileError(const std::string& file, const std::vector<Violation>& violations) {
  return client::WithViolations(
      base::InvalidArgument("JOB_FILE_INVALID", Summary(file, violations.size())), violations);
}

absl::StatusOr<v1::JobSpec> ReadJob(const std::string& text, const std::string& file,
                                    const std::vector<std::string>& overrides) {
  JobText job = ParseJob(text, overrides);
  if (job.violations.empty()) return std::move(job.spec);
  return JobFileError(file, job.violations);
}

absl::Status WithLines(const absl::Status& status, const std::string& text, const std::string& file,
                       const std::vector<std::string>& overrides) {
  std::vector<Violation> violations = client::ViolationsOf(status);
  if (violations.empty()) return status;
  std::vector<Violation> ignored;
  AddOrigins(config::ParseJobFile(text, ignored), overrides, violations);
  return client::WithViolations(
      base::MakeError(status.code(), base::ReasonOf(status), Summary(file, violations.size())),
      violations);
}

}  // namespace espalier::cli
