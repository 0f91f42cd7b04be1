// How much of the cluster a user may take.
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/config/text.h"
#include "server/jobs/job_manager.h"

namespace espalier::server::jobs {
namespace {

absl::Status Exceeded(const std::string& text) {
  return base::MakeError(absl::StatusCode::kResourceExhausted, "QUOTA_EXCEEDED", text);
}

}  // namespace

void JobManager::SetQuotas(config::Quotas quotas) {
  services_.fleet.SetQuotas(quotas);
  quotas_ = std::move(quotas);
}

absl::Status JobManager::CheckJobQuota(const std::string& owner, int64_t more) const {
  const auto& most = quotas_.Of(owner).jobs;
  const int64_t used = index_.CountUnended(owner);
  if (!most.has_value() || used + more <= *most) return absl::OkStatus();
  return Exceeded("expected at most " + std::to_string(*most) + " jobs of '" + owner +
                  "' that have not ended, by the quota `jobs`, found " + std::to_string(used) +
                  (more > 0 ? " and another one" : ", this one among them") +
                  "; wait until one has ended, cancel one, or ask the cluster's operator for a "
                  "larger quota");
}

absl::Status JobManager::CheckCheckpointQuota(const std::string& owner) const {
  const auto& most = quotas_.Of(owner).checkpoint_bytes;
  if (!most.has_value()) return absl::OkStatus();
  const int64_t used = services_.checkpoints.BytesOf(owner);
  if (used < *most) return absl::OkStatus();
  return Exceeded("expected checkpoints of '" + owner + "' of less than " + config::Grouped(*most) +
                  " bytes, by the quota `checkpoint_bytes`, found " + config::Grouped(used) +
                  "; delete some with `espalier job delete --checkpoints` or `espalier checkpoint "
                  "delete`, or ask the cluster's operator for a larger quota");
}

}  // namespace espalier::server::jobs
