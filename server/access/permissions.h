// Permissions: which role may make which call. The table in permissions.cc is all there is to it;
// SECURITY.md shows it to people, and a test compares it with the services' descriptors and with what a
// coordinator does over TLS.
//
// Threading, determinism: pure functions.
#pragma once

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "common/pki/identity.h"
#include "server/access/caller.h"

namespace espalier::server::access {

struct Permission {
  std::string_view call;  // "CreateJob"; no two services have calls of the same name
  std::set<pki::Role> roles;
  // A submitter is answered about what belongs to it, and as if there were nothing else.
  bool own_only = false;
  // It changes something, or gives something out that is to be accounted for: it is written into the
  // audit log.
  bool audited = false;
  // Also callers of whom nothing is known, who show something in the request itself.
  bool anybody = false;
};

const std::vector<Permission>& Permissions();
// Null where there is no such call.
const Permission* PermissionOf(std::string_view call);

// Errors: PermissionDenied ROLE_NOT_ALLOWED, also for a call that is not in the table.
absl::Status Allow(const Caller& caller, std::string_view call);

}  // namespace espalier::server::access
