#include "client/lib/job_text.h"

#include <algorithm>
#include <vector>

#include "client/lib/client.h"
#include "common/base/status.h"
#include "common/config/job_file.h"
#include "common/config/text.h"
#include "common/config/validate.h"
#include "fmt/format.h"

namespace espalier::client {
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

// Whether `inner` is `outer` or a part of it, as paths.
bool IsWithin(std::string_view inner, std::string_view outer) {
  if (outer.empty() || inner == outer) return true;
  return inner.starts_with(outer) && (inner[outer.size()] == '.' || inner[outer.size()] == '[');
}

std::string_view Parent(std::string_view path) {
  const size_t end = path.rfind('.');
  return end == std::string_view::npos ? std::string_view() : path.substr(0, end);
}

// Whether the server's mistake at `found` comes from the file's one at `mistake`. `given`: whether
// the file or an override has the field `found`.
bool FollowsFrom(std::string_view mistake, std::string_view found, bool given) {
  if (IsWithin(found, mistake) || IsWithin(mistake, found)) return true;
  return !given && !config::IsJobField(mistake) && IsWithin(found, Parent(mistake));
}

std::string Summary(const std::string& file, size_t count) {
  return fmt::format("{} has {} problem{}; see docs/reference/job-file.md", config::Quoted(file),
                     count, count == 1 ? "" : "s");
}

}  // namespace

JobText ParseJob(const std::string& text, const std::vector<std::string>& overrides) {
  JobText result;
  config::JobFile job = config::ParseJobFile(text, result.violations);
  result.readable = job.readable;
  if (!job.readable) return result;
  const size_t of_file = result.violations.size();
  for (const std::string& assignment : overrides) {
    config::ApplyOverride(assignment, job.spec, result.violations);
  }
  for (size_t i = of_file; i < result.violations.size(); ++i) {
    result.violations[i].description = "--set: " + result.violations[i].description;
  }
  // A file that was not understood would only give follow-up mistakes.
  if (result.violations.empty()) {
    // Sizes that the data set says are filled in by the coordinator.
    v1::JobSpec sized = job.spec;
    config::AssumeSizes(sized);
    result.violations = config::ValidateJobSpec(sized);
    AddOrigins(job, overrides, result.violations);
  }
  result.spec = std::move(job.spec);
  return result;
}

absl::Status JobFileError(const std::string& file, const std::vector<Violation>& violations,
                          int left_out) {
  const size_t count = violations.size() + static_cast<size_t>(left_out);
  return WithViolations(base::InvalidArgument("JOB_FILE_INVALID", Summary(file, count)), violations,
                        left_out);
}

absl::StatusOr<v1::JobSpec> ReadJob(const std::string& text, const std::string& file,
                                    const std::vector<std::string>& overrides) {
  JobText job = ParseJob(text, overrides);
  if (job.violations.empty()) return std::move(job.spec);
  return JobFileError(file, job.violations);
}

std::vector<Violation> WithServerMistakes(std::vector<Violation> mistakes,
                                          const absl::Status& answer, const std::string& text,
                                          const std::vector<std::string>& overrides) {
  std::vector<Violation> ignored;
  const config::JobFile file = config::ParseJobFile(text, ignored);
  std::vector<Violation> of_server = ViolationsOf(answer);
  std::erase_if(of_server, [&](const Violation& found) {
    const bool given =
        file.lines.contains(found.field) ||
        std::any_of(overrides.begin(), overrides.end(),
                    [&](const std::string& assignment) { return Sets(assignment, found.field); });
    return std::any_of(mistakes.begin(), mistakes.end(), [&](const Violation& mistake) {
      return FollowsFrom(mistake.field, found.field, given);
    });
  });
  AddOrigins(file, overrides, of_server);
  mistakes.insert(mistakes.end(), of_server.begin(), of_server.end());
  return mistakes;
}

absl::Status WithLines(const absl::Status& status, const std::string& text, const std::string& file,
                       const std::vector<std::string>& overrides) {
  std::vector<Violation> violations = ViolationsOf(status);
  if (violations.empty()) return status;
  std::vector<Violation> ignored;
  AddOrigins(config::ParseJobFile(text, ignored), overrides, violations);
  const int left_out = ViolationsLeftOut(status);
  const size_t count = violations.size() + static_cast<size_t>(left_out);
  return WithViolations(
      base::MakeError(status.code(), base::ReasonOf(status), Summary(file, count)), violations,
      left_out);
}

}  // namespace espalier::client
