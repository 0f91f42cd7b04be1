// Identity: who a certificate is for, as it says in a URI among its subject alternative names:
// "espalier://worker/edge-1", "espalier://admin/ada". The rest of a certificate has no say in it.
//
// Threading, determinism: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace espalier::pki {

enum class Role { kAdmin, kSubmitter, kViewer, kWorker, kCoordinator };

inline constexpr Role kRoles[] = {Role::kAdmin, Role::kSubmitter, Role::kViewer, Role::kWorker,
                                  Role::kCoordinator};

struct Identity {
  Role role = Role::kViewer;
  std::string name;  // as base::IsValidId() has it

  bool operator==(const Identity&) const = default;
};

// "admin", "submitter", "viewer", "worker", "coordinator".
std::string_view NameOf(Role role);
std::optional<Role> RoleNamed(std::string_view name);

std::string UriOf(const Identity& identity);
// Nothing where the URI is another's, has an unknown role, or a name that is none.
std::optional<Identity> ParseUri(std::string_view uri);

}  // namespace espalier::pki
