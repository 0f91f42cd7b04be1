#include "common/pki/identity.h"

#include "common/base/names.h"

namespace espalier::pki {
namespace {

constexpr std::string_view kScheme = "espalier://";

}  // namespace

std::string_view NameOf(Role role) {
  switch (role) {
    case Role::kAdmin:
      return "admin";
    case Role::kSubmitter:
      return "submitter";
    case Role::kViewer:
      return "viewer";
    case Role::kWorker:
      return "worker";
    case Role::kCoordinator:
      return "coordinator";
  }
  return "";
}

std::optional<Role> RoleNamed(std::string_view name) {
  for (const Role role : kRoles) {
    if (NameOf(role) == name) return role;
  }
  return std::nullopt;
}

std::string UriOf(const Identity& identity) {
  return std::string(kScheme).append(NameOf(identity.role)).append("/").append(identity.name);
}

std::optional<Identity> ParseUri(std::string_view uri) {
  if (!uri.starts_with(kScheme)) return std::nullopt;
  uri.remove_prefix(kScheme.size());
  const size_t slash = uri.find('/');
  if (slash == std::string_view::npos) return std::nullopt;
  const std::optional<Role> role = RoleNamed(uri.substr(0, slash));
  const std::string_view name = uri.substr(slash + 1);
  if (!role || !base::IsValidId(name)) return std::nullopt;
  return Identity{*role, std::string(name)};
}

}  // namespace espalier::pki
