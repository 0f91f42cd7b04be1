#include "client/dashboard/submission.h"

#include <string_view>
#include <utility>
#include <vector>

#include "client/lib/job_text.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::dashboard {
namespace {

// What messages call it: a browser does not say where a file is from.
constexpr char kFile[] = "the job file";

}  // namespace

absl::StatusOr<v1::Job> Submit(client::Client& client, const JobSubmission& submission) {
  client::JobText text = client::ParseJob(submission.file, {});
  if (!text.readable) return client::JobFileError(kFile, text.violations);
  v1::CreateJobRequest request;
  *request.mutable_spec() = std::move(text.spec);
  if (!text.violations.empty()) {
    // The coordinator is asked as well, so that all mistakes are told at once.
    request.set_validate_only(true);
    const absl::Status answer = client.CreateJob(request).status();
    return client::JobFileError(
        kFile, client::WithServerMistakes(std::move(text.violations), answer, submission.file, {}),
        client::ViolationsLeftOut(answer));
  }
  request.set_job_id(submission.job_id);
  request.set_validate_only(submission.validate_only);
  absl::StatusOr<v1::Job> job = client.CreateJob(request);
  if (!job.ok()) return client::WithLines(job.status(), submission.file, kFile, {});
  return job;
}

absl::StatusOr<v1::RecommendResponse> Recommend(client::Client& client, const std::string& job,
                                                v1::RecommendRequest request) {
  if (request.checkpoint().empty()) {
    ESPALIER_ASSIGN_OR_RETURN(const v1::Job found, client.GetJob(job));
    if (found.latest_checkpoint().empty()) {
      return base::FailedPrecondition(
          "NO_CHECKPOINT",
          fmt::format("expected a checkpoint of {}, found none yet; wait until the "
                      "job has saved one",
                      base::Printable(job)));
    }
    request.set_checkpoint(found.latest_checkpoint());
  } else {
    // "checkpoints/{job}-{round}"; the id of another job may begin alike, and goes on otherwise.
    const std::string prefix = "checkpoints/" + job.substr(job.find('/') + 1) + "-";
    const std::string& name = request.checkpoint();
    const bool of_job = name.starts_with(prefix) &&
                        name.find_first_not_of("0123456789", prefix.size()) == std::string::npos;
    if (!of_job) {
      return base::InvalidArgument(
          "CHECKPOINT_OF_ANOTHER_JOB",
          fmt::format("checkpoint: expected one of {}, such as {}20, found \"{}\"",
                      base::Printable(job), base::Printable(prefix),
                      base::PrintablePrefix(name, 200)));
    }
  }
  return client.Recommend(request);
}

}  // namespace espalier::dashboard
