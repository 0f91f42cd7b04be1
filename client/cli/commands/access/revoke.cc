#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "common/base/status.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Refuse all certificates that a worker has, and end its session

Examples:
  espalier worker revoke edge-1

The worker needs a join token to come back. Its task goes to another worker.)";

}  // namespace

void AddWorkerRevoke(CLI::App& parent, Command& chosen) {
  AddOfOne(parent, chosen, "revoke", kDescription, "WORKER", "workers",
           [](Context& context, const std::string& name) -> absl::StatusOr<int> {
             ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
             ESPALIER_RETURN_IF_ERROR(client->RevokeWorker(name));
             context.err << "Revoked the certificates of " << name << "\n";
             return kExitDone;
           });
}

}  // namespace espalier::cli
