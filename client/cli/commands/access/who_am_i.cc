#include <cctype>
#include <string>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "common/base/status.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Show who you are for the coordinator

Examples:
  espalier user whoami
  espalier user whoami --tls-dir espalier-certs/admin)";

// "ACCESS_ROLE_ADMIN" is "admin".
std::string Word(const std::string& name, size_t prefix) {
  std::string word = name.substr(prefix);
  for (char& letter : word) letter = static_cast<char>(std::tolower(letter));
  return word;
}

absl::StatusOr<int> WhoAmI(Context& context) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Identity identity, client->WhoAmI());
  if (context.PrintAsData(identity)) return kExitDone;
  Table table({{"NAME"}, {"ROLE"}, {"BY"}, {"ENDS"}});
  table.Add({identity.name().empty() ? "-" : identity.name(),
             Word(v1::AccessRole_Name(identity.role()), sizeof("ACCESS_ROLE_") - 1),
             Word(v1::Identity::Source_Name(identity.source()), sizeof("SOURCE_") - 1),
             identity.has_expire_time() ? AbsoluteTime(identity.expire_time()) : "-"});
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

}  // namespace

void AddWhoAmI(CLI::App& parent, Command& chosen) {
  parent.add_subcommand("whoami", kDescription)->callback([&chosen] { chosen = WhoAmI; });
}

}  // namespace espalier::cli
