#include "server/api/ownership.h"

#include <algorithm>

#include "common/base/printable.h"
#include "common/base/status.h"

namespace espalier::server::api {
namespace {

constexpr std::string_view kJobs = "jobs/";
constexpr std::string_view kCheckpoints = "checkpoints/";

// Whether everything is there for the caller.
bool SeesAll(const access::Caller& caller) { return caller.role != pki::Role::kSubmitter; }

}  // namespace

absl::Status CheckJob(const Context& context, const access::Caller& caller,
                      const std::string& name) {
  if (SeesAll(caller)) return absl::OkStatus();
  const auto owner = context.jobs.UserOf(name);
  if (owner.has_value() && caller.MaySee(*owner)) return absl::OkStatus();
  return base::NotFound("JOB_NOT_FOUND", "expected the name of a job of yours, found '" +
                                             base::Printable(name) + "'; see `espalier job list`");
}

absl::Status CheckCheckpoint(const Context& context, const access::Caller& caller,
                             const std::string& name) {
  if (SeesAll(caller)) return absl::OkStatus();
  if (name.starts_with(kJobs)) {
    const auto all = context.checkpoints.List(name.substr(kJobs.size()));
    const bool own = std::ranges::all_of(
        all, [&](const checkpoint::CheckpointInfo& info) { return caller.MaySee(info.owner); });
    if (own && !all.empty()) return absl::OkStatus();
  } else {
    const auto info = context.checkpoints.Get(name);
    if (info.ok() && caller.MaySee(info->owner)) return absl::OkStatus();
  }
  return base::NotFound("CHECKPOINT_NOT_FOUND", "expected a checkpoint of a job of yours, found '" +
                                                    base::Printable(name) +
                                                    "'; see `espalier checkpoint list`");
}

absl::Status CheckPretrained(const Context& context, const access::Caller& caller,
                             const v1::ModelSpec& model) {
  const std::string& name = model.pretrained();
  if (!name.starts_with(kJobs) && !name.starts_with(kCheckpoints)) return absl::OkStatus();
  return CheckCheckpoint(context, caller, name);
}

}  // namespace espalier::server::api
