#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Show a method, its source and its parameters

Examples:
  espalier method describe set
  espalier method describe rigl -o json)";

std::string ValueText(const v1::Value& value) {
  switch (value.kind_case()) {
    case v1::Value::kBoolValue:
      return value.bool_value() ? "true" : "false";
    case v1::Value::kIntValue:
      return std::to_string(value.int_value());
    case v1::Value::kDoubleValue:
      return fmt::format("{}", value.double_value());
    case v1::Value::kStringValue:
      return value.string_value();
    case v1::Value::KIND_NOT_SET:
      return "required";
  }
  return "";
}

absl::StatusOr<int> Describe(Context& context, const std::string& name) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::Method method, client->DescribeMethod(name));
  if (context.PrintAsData(method)) return kExitDone;
  PrintFields(
      context.out, context.out_terminal,
      {{"name", method.name()},
       {"summary", method.summary()},
       {"source", method.source()},
       {"workers", method.dense_capable_workers() ? "need memory for dense tensors"
                                                  : "need memory for active weights only"}});
  context.out << "\n";
  Table families({{"FAMILY"}, {"WORKS"}, {.title = "WHY NOT", .wrap = true}});
  for (const v1::FamilySupport& support : method.families()) {
    families.Add({support.family(), support.supported() ? "yes" : "no", support.reason()});
  }
  families.Print(context.out, context.out_terminal);
  if (method.parameters().empty()) return kExitDone;
  context.out << "\n";
  Table table({{"PARAMETER"},
               {"DEFAULT", true},
               {.title = "RANGE", .drop = 1, .wrap = true},
               {.title = "MEANING", .wrap = true}});
  for (const v1::MethodParameter& parameter : method.parameters()) {
    table.Add({parameter.name(), ValueText(parameter.default_value()), parameter.range(),
               parameter.doc()});
  }
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

}  // namespace

void AddMethodDescribe(CLI::App& parent, Command& chosen) {
  auto name = std::make_shared<std::string>();
  CLI::App* command = parent.add_subcommand("describe", kDescription);
  command->add_option("METHOD", *name, "Name, as in `espalier method list`")->required();
  command->callback(
      [&chosen, name] { chosen = [name](Context& context) { return Describe(context, *name); }; });
}

}  // namespace espalier::cli
