#include <unistd.h>

#include "absl/time/clock.h"
#include "client/cli/commands/cert/cert.h"
#include "client/cli/commands/cert/show.h"
#include "client/cli/exit_code.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli::cert {
namespace {

constexpr char kDescription[] = R"(Make what is missing, and renew what ends soon

Examples:
  espalier cert keep --host coordinator --dir /authority --copy coordinator=/tls
      for a service that runs before each start of a cluster
  espalier cert keep --host coordinator --user dashboard=viewer
      with a certificate for one more user

Does what `espalier cert init` does where the folder is not there yet. Otherwise
renews the certificates in it that end within 30 days, and the lists of revoked
ones. --user makes a certificate for somebody who has none, or none that lasts.
--copy writes the folder of a holder to another place, such as a volume
that only this holder has; ca=FOLDER writes the root's certificate alone, which
is no secret.)";

struct KeepOptions {
  Place place;
  std::vector<std::string> hosts;
  std::vector<std::string> users;   // NAME=ROLE
  std::vector<std::string> copies;  // NAME=FOLDER
};

absl::Status RenewWhatEnds(Folder& folder, absl::Time now) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<Row> rows, RowsOf(folder, now));
  for (const Row& row : rows) {
    const std::string state = StateOf(row, now);
    if (state != "ENDS_SOON" && state != "EXPIRED") continue;
    if (row.name == "workers") {
      ESPALIER_RETURN_IF_ERROR(folder.RenewWorkers(now));
    } else if (row.role != "authority" && !row.replaced) {
      ESPALIER_RETURN_IF_ERROR(folder.Renew(row.name, {}, std::nullopt, now).status());
    }
  }
  return folder.RenewLists(Folder::Lists::kBoth, now);
}

// The users that the flags name, of whom the folder may know some already.
absl::StatusOr<std::vector<Request>> UsersOf(const std::vector<std::string>& users) {
  std::vector<Request> requests;
  for (const std::string& user : users) {
    const size_t equals = user.find('=');
    // Workers and coordinators are no users; a word that is no role stands for none of them.
    const pki::Role role =
        equals == std::string::npos
            ? pki::Role::kWorker
            : pki::RoleNamed(user.substr(equals + 1)).value_or(pki::Role::kWorker);
    const bool is_user =
        role == pki::Role::kAdmin || role == pki::Role::kSubmitter || role == pki::Role::kViewer;
    if (equals == 0 || !is_user) {
      return base::InvalidArgument(
          "USAGE", "expected --user NAME=ROLE with the role admin, submitter or viewer, found '" +
                       base::Printable(user) + "'");
    }
    requests.push_back({{role, user.substr(0, equals)}, {}, std::nullopt});
  }
  return requests;
}

absl::Status IssueWhatIsMissing(Folder& folder, const std::vector<Request>& users, absl::Time now) {
  for (const Request& user : users) {
    const Issued* known = folder.record().Newest(user.identity.name);
    if (known == nullptr) {
      ESPALIER_RETURN_IF_ERROR(folder.Issue(user, now).status());
    } else if (known->identity.role != user.identity.role) {
      return base::InvalidArgument(
          "USAGE",
          fmt::format("expected --user {}={}, as the certificate in the folder says, found another "
                      "role; name another user, since who has that certificate keeps its role",
                      base::Printable(user.identity.name), pki::NameOf(known->identity.role)));
    }
  }
  return absl::OkStatus();
}

absl::Status CopyTo(const Folder& folder, const std::string& copy) {
  const size_t equals = copy.find('=');
  if (equals == std::string::npos || equals == 0 || equals + 1 == copy.size()) {
    return base::InvalidArgument(
        "USAGE", "expected --copy NAME=FOLDER, found '" + base::Printable(copy) + "'");
  }
  const std::string holder = copy.substr(0, equals);
  Files files;
  if (holder == "ca") {
    ESPALIER_ASSIGN_OR_RETURN(std::string text, ReadText(folder.PathOf("authority") + "/ca.pem"));
    files.emplace_back("ca.pem", std::move(text));
    return WriteTogether(copy.substr(equals + 1), files);
  }
  if (holder == "authority") {
    return base::InvalidArgument("USAGE",
                                 "expected the name of a holder, or ca for the root's certificate "
                                 "alone, found the authority, whose keys stay where they are");
  }
  const std::string from = folder.PathOf(holder);
  // The key first, as where it is renewed.
  for (const char* name :
       {"key.pem", "cert.pem", "ca.pem", "workers.key", "workers.pem", "crl.pem"}) {
    const std::string path = from + "/" + name;
    if (access(path.c_str(), F_OK) != 0) continue;
    ESPALIER_ASSIGN_OR_RETURN(std::string text, ReadText(path));
    files.emplace_back(name, std::move(text));
  }
  if (!files.empty()) return WriteTogether(copy.substr(equals + 1), files);
  return base::NotFound("CERT_NOT_FOUND", "expected the folder of a holder at '" +
                                              base::Printable(from) +
                                              "', found none; see `espalier cert list`");
}

absl::StatusOr<int> Keep(Context& context, const KeepOptions& options) {
  const PrivateFiles private_files;
  const absl::Time now = absl::Now();
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<Request> users, UsersOf(options.users));
  const bool is_new = access((options.place.dir + "/authority").c_str(), F_OK) != 0;
  if (is_new) {
    ESPALIER_RETURN_IF_ERROR(Folder::Make(options.place, options.hosts, now).status());
  }
  ESPALIER_ASSIGN_OR_RETURN(Folder folder, Folder::Open(options.place, Access::kChange));
  if (!is_new) ESPALIER_RETURN_IF_ERROR(RenewWhatEnds(folder, now));
  ESPALIER_RETURN_IF_ERROR(IssueWhatIsMissing(folder, users, now));
  for (const std::string& copy : options.copies) {
    ESPALIER_RETURN_IF_ERROR(CopyTo(folder, copy));
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<Row> rows, RowsOf(folder, now));
  ESPALIER_ASSIGN_OR_RETURN(const bool printed,
                            PrintAsData(context, folder, options.place.dir, rows, now));
  if (!printed) PrintRows(context, rows, now);
  return kExitDone;
}

}  // namespace

void AddCertKeep(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<KeepOptions>();
  CLI::App* command = parent.add_subcommand("keep", kDescription);
  AddHosts(*command, options->hosts,
           "Name or address by which the coordinator is reached, where the folder is new; may be "
           "repeated");
  command
      ->add_option("--user", options->users,
                   "Somebody who has a certificate, too: admin, submitter or viewer; may be "
                   "repeated")
      ->type_name("NAME=ROLE")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--copy", options->copies, "Write NAME's folder there; may be repeated")
      ->type_name("NAME=FOLDER");
  AddDir(*command, options->place);
  AddPassphraseFile(*command, options->place,
                    "File whose first line is the passphrase of the root's key");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Keep(context, *options); };
  });
}

}  // namespace espalier::cli::cert
