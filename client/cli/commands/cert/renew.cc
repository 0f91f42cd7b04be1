#include "absl/time/clock.h"
#include "client/cli/commands/cert/cert.h"
#include "client/cli/commands/cert/show.h"
#include "client/cli/exit_code.h"
#include "common/base/flags.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli::cert {
namespace {

constexpr char kDescription[] = R"(Make a certificate anew before it ends

Examples:
  espalier cert renew coordinator
  espalier cert renew coordinator --host second-name.example.org
  espalier cert renew workers    the authority for workers, which keeps its key
  espalier cert renew --crl      only the lists of revoked certificates

The files in the folder NAME are written anew: another key, and a certificate
with the same role, names and lifetime. Copy them to where they are used;
programs that run read them again by themselves. The former certificate is valid
until it ends: revoke it if its key was lost. The lists of revoked certificates
are renewed as well; they should be every 30 days. Coordinators go by a list
whose time has passed, and warn.)";

struct RenewOptions {
  Place place;
  std::string name;
  std::vector<std::string> hosts;
  std::optional<int> days;
  bool lists = false;
};

absl::Status CheckUsage(const RenewOptions& options) {
  if (options.name.empty() != options.lists) {
    return base::InvalidArgument(
        "USAGE", options.lists ? "expected NAME or --crl, found both; renewing NAME renews "
                                 "the lists as well"
                               : "expected NAME or --crl, found neither; espalier cert list "
                                 "shows the names");
  }
  const bool authority = options.lists || options.name == "workers";
  if (!authority || (options.hosts.empty() && !options.days)) return absl::OkStatus();
  return base::InvalidArgument(
      "USAGE",
      "expected --host and --days with the name of a coordinator or user, found them "
      "with an authority or its lists; leave them out");
}

absl::StatusOr<int> Renew(Context& context, const RenewOptions& options) {
  ESPALIER_RETURN_IF_ERROR(CheckUsage(options));
  const PrivateFiles private_files;
  const absl::Time now = absl::Now();
  ESPALIER_ASSIGN_OR_RETURN(Folder folder, Folder::Open(options.place, Access::kChange));
  std::vector<Row> rows;
  std::string text;
  if (options.name == "root") {
    return base::InvalidArgument(
        "USAGE",
        "expected the name of a certificate that the root signs, found the root itself; "
        "nobody would trust another one: make a new folder with espalier cert init, and "
        "trust both for a while (docs/security/certificates.md)");
  }
  if (options.lists || options.name == "workers") {
    if (!options.lists) ESPALIER_RETURN_IF_ERROR(folder.RenewWorkers(now));
    ESPALIER_RETURN_IF_ERROR(folder.RenewLists(Folder::Lists::kBoth, now));
    ESPALIER_ASSIGN_OR_RETURN(rows, RowsOf(folder, now));
    std::erase_if(rows, [](const Row& row) { return row.name != "workers"; });
    if (options.lists) rows.clear();
    text = fmt::format("Renewed the {}; copy {} to every coordinator\n",
                       options.lists ? "lists of revoked certificates" : "authority for workers",
                       options.lists ? "crl.pem" : "workers.pem and crl.pem");
  } else {
    ESPALIER_ASSIGN_OR_RETURN(const Issued issued,
                              folder.Renew(options.name, options.hosts, options.days, now));
    rows = {RowOf(issued, folder.record())};
    text = fmt::format("Renewed {} until {}; copy it to where it is used\n",
                       folder.PathOf(options.name), DateOf(issued.not_after));
  }
  ESPALIER_ASSIGN_OR_RETURN(const bool printed,
                            PrintAsData(context, folder, options.place.dir, rows, now));
  if (!printed) context.out << base::Printable(text, {.keep = "\n"});
  return kExitDone;
}

}  // namespace

void AddCertRenew(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<RenewOptions>();
  CLI::App* command = parent.add_subcommand("renew", kDescription);
  command->add_option("NAME", options->name, "Whose certificate; workers: their authority's");
  command->add_flag("--crl", options->lists, "Only the lists of revoked certificates");
  AddHosts(*command, options->hosts, "Another host beside the former ones; may be repeated");
  command->add_option("--days", options->days, "Lifetime in days; default: as before")
      ->type_name("N")
      ->check(base::Between(1, 825));
  AddDir(*command, options->place);
  AddPassphraseFile(*command, options->place,
                    "File whose first line is the passphrase of the root's key");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Renew(context, *options); };
  });
}

}  // namespace espalier::cli::cert
