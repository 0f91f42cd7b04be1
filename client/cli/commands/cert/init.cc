#include <algorithm>

#include "absl/time/clock.h"
#include "client/cli/commands/cert/cert.h"
#include "client/cli/commands/cert/show.h"
#include "client/cli/exit_code.h"
#include "client/cli/init/shell.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli::cert {
namespace {

constexpr char kDescription[] = R"(Make authorities, and certificates for a coordinator and for you

Examples:
  espalier cert init --host coordinator.example.org
  espalier cert init --host 10.0.0.7 --host c.lan --passphrase-file secret.txt

Makes a folder with three in it: authority/ with the keys that sign, which
stays off the cluster; coordinator/ and admin/ with what --tls-dir of the
programs takes. Whoever connects by another name than those of --host does not
trust the coordinator; localhost is always among them. Lifetimes: the root 10
years, the authority for workers 5 years, the coordinator's certificate 1 year,
yours 90 days.)";

struct InitOptions {
  Place place;
  std::vector<std::string> hosts;
};

void Tell(Context& context, const InitOptions& options, const std::vector<Issued>& issued) {
  const std::string dir = init::ShellWord(options.place.dir);
  const std::string host = options.hosts.empty() ? "localhost" : options.hosts.front();
  const std::string server =
      (host.find(':') == std::string::npos ? host : "[" + host + "]") + ":7070";
  std::string text = fmt::format(
      R"(Made {}:
  authority/    the keys that sign, and what they signed and revoked. Whoever has
                it can make admins: keep it off the cluster, and back it up.
  coordinator/  for the coordinator at {}, until {}
  admin/        for you: the user "admin" with the role admin, until {}

Next, on the coordinator's machine, with coordinator/ copied to it:
  espalier-coordinator --listen {} --tls-dir {}/coordinator
and here:
  espalier --server {} --tls-dir {}/admin cluster status
  espalier cert issue NAME --role submitter --dir {}
)",
      options.place.dir, ListOf(issued.at(0).hosts), DateOf(issued.at(0).not_after),
      DateOf(issued.at(1).not_after), options.hosts.empty() ? "127.0.0.1:7070" : "0.0.0.0:7070",
      dir, server, dir, dir);
  context.out << base::Printable(text, {.keep = "\n"});
  if (options.hosts.empty()) {
    context.err << "No --host was given, so that only programs on this machine will trust the "
                   "coordinator; add\nmore with espalier cert renew coordinator --host NAME.\n";
  }
}

absl::StatusOr<int> Init(Context& context, const InitOptions& options) {
  const PrivateFiles private_files;
  const absl::Time now = absl::Now();
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<Issued> issued,
                            Folder::Make(options.place, options.hosts, now));
  ESPALIER_ASSIGN_OR_RETURN(const Folder folder, Folder::Open(options.place, Access::kRead));
  std::vector<Row> rows;
  rows.reserve(issued.size());
  for (const Issued& made : issued) rows.push_back(RowOf(made, folder.record()));
  ESPALIER_ASSIGN_OR_RETURN(const bool printed,
                            PrintAsData(context, folder, options.place.dir, rows, now));
  if (!printed) Tell(context, options, issued);
  return kExitDone;
}

}  // namespace

void AddCertInit(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<InitOptions>();
  CLI::App* command = parent.add_subcommand("init", kDescription);
  AddHosts(*command, options->hosts,
           "Name or address by which the coordinator is reached; may be repeated");
  AddDir(*command, options->place);
  AddPassphraseFile(*command, options->place,
                    "Encrypt the root's key with the passphrase in the first line of this file");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Init(context, *options); };
  });
}

}  // namespace espalier::cli::cert
