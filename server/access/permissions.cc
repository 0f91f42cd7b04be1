#include "server/access/permissions.h"

#include <algorithm>
#include <string>

#include "absl/strings/str_join.h"
#include "common/base/printable.h"
#include "common/base/status.h"

namespace espalier::server::access {
namespace {

using pki::Role;

const std::set<Role> kPeople = {Role::kAdmin, Role::kSubmitter, Role::kViewer};
const std::set<Role> kUsers = {Role::kAdmin, Role::kSubmitter};
const std::set<Role> kAdmins = {Role::kAdmin};
const std::set<Role> kWorkers = {Role::kWorker};
const std::set<Role> kEverybody(std::begin(pki::kRoles), std::end(pki::kRoles));

constexpr bool kOwn = true;
constexpr bool kAudited = true;

std::string Names(const std::set<Role>& roles) {
  return absl::StrJoin(roles, " or ",
                       [](std::string* text, Role role) { text->append(pki::NameOf(role)); });
}

}  // namespace

const std::vector<Permission>& Permissions() {
  static const auto* const table = new std::vector<Permission>{
      {"CreateJob", kUsers, kOwn, kAudited},
      {"GetJob", kPeople, kOwn},
      {"ListJobs", kPeople, kOwn},
      {"ListRounds", kPeople, kOwn},
      {"WatchJob", kPeople, kOwn},
      {"WatchJobs", kPeople, kOwn},
      {"GetRoundProgress", kPeople, kOwn},
      {"CancelJob", kUsers, kOwn, kAudited},
      {"PauseJob", kUsers, kOwn, kAudited},
      {"ResumeJob", kUsers, kOwn, kAudited},
      {"RetryJob", kUsers, kOwn, kAudited},
      {"DeleteJob", kUsers, kOwn, kAudited},

      {"ListCheckpoints", kPeople, kOwn},
      {"GetCheckpoint", kPeople, kOwn},
      {"VerifyCheckpoint", kUsers, kOwn},
      {"GetTopology", kPeople, kOwn},
      // A model says something of the data that it was trained on, and so does what it predicts.
      {"DownloadCheckpoint", kUsers, kOwn, kAudited},
      {"Recommend", kUsers, kOwn, kAudited},
      {"Predict", kUsers, kOwn, kAudited},
      {"DeleteCheckpoint", kUsers, kOwn, kAudited},

      {"ListMethods", kPeople},
      {"DescribeMethod", kPeople},
      {"GetClusterInfo", kPeople},
      {"ListWorkers", kPeople},
      {"WatchWorkers", kPeople},
      {"GetSystem", kPeople},
      {"DrainWorker", kAdmins, !kOwn, kAudited},
      {"UndrainWorker", kAdmins, !kOwn, kAudited},

      {"Session", kWorkers, !kOwn, kAudited},
      {"Fetch", kWorkers},
      {"Submit", kWorkers},

      {"WhoAmI", kEverybody},
      {"Join", kEverybody, !kOwn, kAudited, /*anybody=*/true},
      {"RenewCertificate", kWorkers, !kOwn, kAudited},
      {"RevokeWorker", kAdmins, !kOwn, kAudited},
      {"CreateToken", kAdmins, !kOwn, kAudited},
      {"ListTokens", kAdmins},
      {"RevokeToken", kAdmins, !kOwn, kAudited},
  };
  return *table;
}

const Permission* PermissionOf(std::string_view call) {
  const auto at = std::ranges::find(Permissions(), call, &Permission::call);
  return at == Permissions().end() ? nullptr : &*at;
}

absl::Status Allow(const Caller& caller, std::string_view call) {
  if (caller.is_open()) return absl::OkStatus();
  const Permission* permission = PermissionOf(call);
  if (permission != nullptr && (permission->anybody || permission->roles.contains(caller.role))) {
    return absl::OkStatus();
  }
  return base::MakeError(
      absl::StatusCode::kPermissionDenied, "ROLE_NOT_ALLOWED",
      "expected a caller with the role " +
          (permission == nullptr ? "that this call is for" : Names(permission->roles)) + " for " +
          std::string(call) + ", found '" + base::Printable(caller.name) + "' with the role " +
          std::string(pki::NameOf(caller.role)) + "; ask whoever runs the cluster for another one");
}

}  // namespace espalier::server::access
