#include "common/base/status.h"

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Show the coordinator and what it is doing

Examples:
  espalier cluster status
  espalier cluster status --server 10.0.0.5:7070)";

absl::StatusOr<int> Status(Context& context) {
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  ESPALIER_ASSIGN_OR_RETURN(const v1::ClusterInfo info, client->GetClusterInfo());
  if (context.PrintAsData(info)) return kExitDone;
  const std::string revision = info.revision().empty() ? "" : " (" + info.revision() + ")";
  PrintFields(context.out, context.out_terminal,
              {{"coordinator", context.options.client.server},
               {"version", info.version() + revision},
               {"protocol", fmt::format("{}..{}", info.protocol_min(), info.protocol_max())},
               {"started", AbsoluteTime(info.start_time())},
               {"metrics", info.metrics_address()},
               {"workers active", std::to_string(info.workers_active())},
               {"jobs running", std::to_string(info.jobs_running())},
               {"jobs in all", std::to_string(info.jobs_total())}});
  return kExitDone;
}

}  // namespace

void AddClusterStatus(CLI::App& parent, Command& chosen) {
  parent.add_subcommand("status", kDescription)->callback([&chosen] { chosen = Status; });
}

}  // namespace espalier::cli
