#include <memory>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/lib/servers.h"
#include "common/base/status.h"
#include "common/rpc/worker_certificate.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Get a worker's certificate on its machine, with a join token

Examples:
  espalier worker join --server train.example:7070 --ca ca.pem --token edge-1.token --dir tls
  espalier-worker --coordinator train.example:7070 --tls-dir tls

Makes a key, which stays in DIR/worker.pem, and has it signed. espalier-worker does the same by itself
where it is given --join-token-file; it renews the certificate in either case.)";

struct Wanted {
  std::string token;
  std::string id;
  std::string dir;
};

absl::StatusOr<int> Join(Context& context, const Wanted& wanted) {
  ESPALIER_ASSIGN_OR_RETURN(auto connections, client::ConnectionsOf(context.options.client));
  absl::StatusOr<rpc::WorkerCertificateFile> joined = absl::UnavailableError("nobody was asked");
  for (const rpc::ChannelOptions& connection : connections) {
    joined = rpc::JoinCluster(connection, wanted.token, wanted.id, wanted.dir + "/worker.pem");
    if (joined.ok() || !rpc::MayJoinLater(joined.status())) break;
  }
  ESPALIER_RETURN_IF_ERROR(joined.status());
  v1::WorkerCertificate shown;
  shown.set_worker_id(joined->worker_id);
  shown.mutable_expire_time()->set_seconds(absl::ToUnixSeconds(joined->not_after));
  shown.mutable_renew_time()->set_seconds(absl::ToUnixSeconds(joined->renew_at));
  if (context.PrintAsData(shown)) return kExitDone;
  Table table({{"WORKER"}, {"ENDS"}, {"FILE"}});
  table.Add({joined->worker_id, AbsoluteTime(shown.expire_time()), wanted.dir + "/worker.pem"});
  table.Print(context.out, context.out_terminal);
  return kExitDone;
}

}  // namespace

void AddWorkerJoin(CLI::App& parent, Command& chosen) {
  auto wanted = std::make_shared<Wanted>();
  CLI::App* command = parent.add_subcommand("join", kDescription);
  command->add_option("--token", wanted->token, "File with the join token")
      ->type_name("FILE")
      ->required();
  command->add_option("--id", wanted->id, "Id of the worker, where the token leaves a choice");
  command->add_option("--dir", wanted->dir, "Folder for worker.pem, the --tls-dir of the worker")
      ->type_name("DIR")
      ->required();
  command->callback([&chosen, wanted] {
    chosen = [wanted](Context& context) { return Join(context, *wanted); };
  });
}

}  // namespace espalier::cli
