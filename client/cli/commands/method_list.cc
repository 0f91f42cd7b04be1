#include <algorithm>
#include <cctype>
#include <memory>
#include <string>
#include <vector>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "common/base/status.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(List the training methods of a cluster

With --families the list says on which families of models each method works.

Examples:
  espalier method list
  espalier method list --families
  espalier method describe set)";

// A column for each family: its name where the method works. Without a header the names still tell.
void PrintFamilies(Context& context, const v1::ListMethodsResponse& methods) {
  std::vector<Table::Column> columns = {{"METHOD"}};
  for (const v1::FamilySupport& support : methods.methods(0).families()) {
    std::string head = support.family();
    std::transform(head.begin(), head.end(), head.begin(),
                   [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    columns.push_back({head});
  }
  Table table(columns);
  for (const v1::Method& method : methods.methods()) {
    std::vector<std::string> row = {method.name()};
    for (const v1::FamilySupport& support : method.families()) {
      row.push_back(support.supported() ? support.family() : "-");
    }
    table.Add(row);
  }
  table.Print(context.out, context.out_terminal);
}

absl::StatusOr<int> List(Context& context, bool families) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const auto methods, client->ListMethods());
  if (context.PrintAsData(methods)) return kExitDone;
  if (families && !methods.methods().empty()) {
    PrintFamilies(context, methods);
    return kExitDone;
  }
  Table table({{"NAME"}, {.title = "SUMMARY", .wrap = true}});
  for (const v1::Method& method : methods.methods()) table.Add({method.name(), method.summary()});
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

}  // namespace

void AddMethodList(CLI::App& parent, Command& chosen) {
  auto families = std::make_shared<bool>(false);
  CLI::App* command = parent.add_subcommand("list", kDescription);
  command->add_flag("--families", *families, "Show which families of models each works on");
  command->callback([&chosen, families] {
    chosen = [families](Context& context) { return List(context, *families); };
  });
}

}  // namespace espalier::cli
