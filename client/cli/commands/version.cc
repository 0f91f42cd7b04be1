#include "common/base/version.h"

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "common/base/limits.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Show the version of this program

Examples:
  espalier version
  espalier version -o json)";

absl::StatusOr<int> Version(Context& context) {
  if (context.options.format == Format::kTable) {
    context.out << VersionLine() << "\n";
    return kExitDone;
  }
  Json json;
  json["version"] = base::Version();
  json["protocol_min"] = base::kProtocolMin;
  json["protocol_max"] = base::kProtocolMax;
  PrintData(context.out, context.options.format, json);
  return kExitDone;
}

}  // namespace

std::string VersionLine() {
  return fmt::format("espalier {} (protocol {}..{})", base::Version(), base::kProtocolMin,
                     base::kProtocolMax);
}

void AddVersion(CLI::App& parent, Command& chosen) {
  parent.add_subcommand("version", kDescription)->callback([&chosen] { chosen = Version; });
}

}  // namespace espalier::cli
