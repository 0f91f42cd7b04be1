#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "common/base/status.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(List the training methods of a cluster

Examples:
  espalier method list
  espalier method describe set)";

absl::StatusOr<int> List(Context& context) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const auto methods, client->ListMethods());
  if (context.PrintAsData(methods)) return kExitDone;
  Table table({{"NAME"}, {"SUMMARY"}});
  for (const v1::Method& method : methods.methods()) table.Add({method.name(), method.summary()});
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

}  // namespace

void AddMethodList(CLI::App& parent, Command& chosen) {
  parent.add_subcommand("list", kDescription)->callback([&chosen] { chosen = List; });
}

}  // namespace espalier::cli
