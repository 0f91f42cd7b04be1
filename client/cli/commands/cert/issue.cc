#include "absl/time/clock.h"
#include "client/cli/commands/cert/cert.h"
#include "client/cli/commands/cert/show.h"
#include "client/cli/exit_code.h"
#include "client/cli/init/shell.h"
#include "common/base/flags.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli::cert {
namespace {

constexpr char kDescription[] = R"(Make a certificate for somebody

Examples:
  espalier cert issue ada --role submitter
  espalier cert issue dash --role viewer --host dash.example.org    a dashboard
  espalier cert issue standby --role coordinator --host b.example.org
  espalier cert issue edge-1 --role worker --days 30

Makes a folder NAME with a new key, which whoever it is for takes to their
machine and gives to --tls-dir. An admin may do everything, a submitter has jobs
of their own, a viewer looks. A dashboard that serves a page is a viewer with
hosts. Workers get certificates by themselves with a join token (espalier worker
token create); one made here is for where that does not suit. Lifetimes: 90
days, at most 365; a coordinator's 365, at most 825.)";

std::vector<std::string> RoleWords() {
  std::vector<std::string> words;
  for (const pki::Role role : pki::kRoles) words.emplace_back(pki::NameOf(role));
  return words;
}

struct IssueOptions {
  Place place;
  Request request;
  std::string role;
};

// What whoever has the folder types.
std::string NextCommand(const Request& request, const std::string& folder) {
  switch (request.identity.role) {
    case pki::Role::kCoordinator:
      return fmt::format("espalier-coordinator --listen 0.0.0.0:7070 --tls-dir {}", folder);
    case pki::Role::kWorker:
      return fmt::format("espalier-worker --coordinator HOST:7070 --tls-dir {} --data-root DIR",
                         folder);
    case pki::Role::kAdmin:
    case pki::Role::kSubmitter:
    case pki::Role::kViewer:
      break;
  }
  return fmt::format("espalier --server HOST:7070 --tls-dir {} job list", folder);
}

absl::StatusOr<int> Issue(Context& context, const IssueOptions& options) {
  const PrivateFiles private_files;
  const absl::Time now = absl::Now();
  Request request = options.request;
  request.identity.role = *pki::RoleNamed(options.role);
  ESPALIER_ASSIGN_OR_RETURN(Folder folder, Folder::Open(options.place, Access::kChange));
  ESPALIER_ASSIGN_OR_RETURN(const Issued issued, folder.Issue(request, now));
  const std::vector<Row> rows = {RowOf(issued, folder.record())};
  ESPALIER_ASSIGN_OR_RETURN(const bool printed,
                            PrintAsData(context, folder, options.place.dir, rows, now));
  if (!printed) {
    const std::string hosts = issued.hosts.empty() ? "" : " at " + ListOf(issued.hosts);
    const std::string path = folder.PathOf(issued.identity.name);
    context.out << base::Printable(
        fmt::format("Made {}: {}, role {}{}, until {}\nNext, with a copy of that folder:\n  {}\n",
                    path, issued.identity.name, options.role, hosts, DateOf(issued.not_after),
                    NextCommand(request, init::ShellWord(path))),
        {.keep = "\n"});
  }
  if (issued.not_after < now + issued.days * kDay - absl::Seconds(1)) {
    context.err << fmt::format(
        "It ends with its authority, in {} days in place of {}. Longer ones need another authority:"
        " see docs/security/certificates.md.\n",
        DaysLeft(issued.not_after, now), issued.days);
  }
  return kExitDone;
}

}  // namespace

void AddCertIssue(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<IssueOptions>();
  CLI::App* command = parent.add_subcommand("issue", kDescription);
  command->add_option("NAME", options->request.identity.name, "Who it is for, such as ada")
      ->required();
  command
      ->add_option("--role", options->role,
                   "What they may do: admin, submitter, viewer, worker or coordinator")
      ->type_name("ROLE")
      ->check(base::OneOf(RoleWords()))
      ->required();
  AddHosts(*command, options->request.hosts,
           "Name or address that they serve at, for a coordinator or a dashboard; may be repeated");
  command->add_option("--days", options->request.days, "Lifetime in days")
      ->type_name("N")
      ->check(base::Between(1, 825));
  AddDir(*command, options->place);
  AddPassphraseFile(*command, options->place,
                    "File whose first line is the passphrase of the root's key");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Issue(context, *options); };
  });
}

}  // namespace espalier::cli::cert
