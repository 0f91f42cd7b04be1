#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/time/clock.h"
#include "client/cli/commands/cert/cert.h"
#include "client/cli/commands/cert/show.h"
#include "client/cli/exit_code.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli::cert {
namespace {

constexpr char kDescription[] = R"(Revoke certificates: their holders are refused from now on

Examples:
  espalier cert revoke ada                 all of ada's that have not ended
  espalier cert revoke --serial 4f3c1a     one of them
  espalier cert revoke --serial 9b2e --worker

Adds them to crl.pem in authority/ and in the folders of coordinators. A
coordinator that runs on such a folder reads it by itself; copy crl.pem to the
others. --worker is for certificates that a coordinator gave to workers, which
espalier worker list shows with their serial numbers. A revoked name may be
given a new certificate with espalier cert renew. Revoking a coordinator's own
certificate does not help, since clients have no list: make other authorities.)";

struct RevokeOptions {
  Place place;
  std::string name;
  std::string serial;
  bool worker = false;
};

// As Certificate has it. openssl and other tools write "0A:1B" or "0x0A1B".
std::string NormalSerial(const std::string& text) {
  std::string serial = absl::AsciiStrToLower(text);
  std::erase(serial, ':');
  if (serial.starts_with("0x")) serial.erase(0, 2);
  serial.erase(0, std::min(serial.find_first_not_of('0'), serial.size()));
  return serial;
}

absl::Status CheckUsage(const RevokeOptions& options) {
  if (options.name.empty() == options.serial.empty()) {
    return base::InvalidArgument(
        "USAGE", fmt::format("expected NAME or --serial, found {}; espalier cert list shows both",
                             options.name.empty() ? "neither" : "both"));
  }
  if (options.worker && options.serial.empty()) {
    return base::InvalidArgument("USAGE",
                                 "expected --serial with --worker, found a name; espalier worker "
                                 "list shows the serial numbers of workers");
  }
  return absl::OkStatus();
}

absl::Status NotFound(const std::string& what) {
  return base::NotFound(
      "CERT_NOT_FOUND",
      fmt::format("expected {}, found none; espalier cert list shows them, and --worker is for "
                  "those that a coordinator gave to workers",
                  what));
}

// Those of the register that are meant.
absl::StatusOr<std::vector<Issued>> Meant(const Register& record, const RevokeOptions& options,
                                          const std::string& serial, absl::Time now) {
  std::vector<Issued> meant;
  for (const Issued& issued : record.issued()) {
    const bool named = !options.name.empty() && issued.identity.name == options.name;
    const bool numbered = options.name.empty() && issued.serial == serial;
    if (numbered || (named && issued.not_after > now)) meant.push_back(issued);
  }
  if (!meant.empty()) return meant;
  if (options.name.empty()) {
    return NotFound(fmt::format("a certificate of this folder with serial number {}",
                                config::Quoted(options.serial)));
  }
  return NotFound(fmt::format("certificates of {} in this folder that have not ended",
                              config::Quoted(options.name)));
}

absl::StatusOr<int> Revoke(Context& context, const RevokeOptions& options) {
  ESPALIER_RETURN_IF_ERROR(CheckUsage(options));
  const PrivateFiles private_files;
  const absl::Time now = absl::Now();
  const std::string serial = NormalSerial(options.serial);
  ESPALIER_ASSIGN_OR_RETURN(Folder folder, Folder::Open(options.place, Access::kChange));
  std::vector<Row> rows;
  std::vector<std::string> shown;
  if (options.worker) {
    ESPALIER_RETURN_IF_ERROR(folder.Revoke(Signer::kWorkers, {serial}, now));
    shown.push_back(serial);
  } else {
    ESPALIER_ASSIGN_OR_RETURN(const std::vector<Issued> meant,
                              Meant(folder.record(), options, serial, now));
    // A name keeps its role, so that all of its certificates have one signer.
    std::vector<std::string> serials;
    serials.reserve(meant.size());
    for (const Issued& issued : meant) serials.push_back(issued.serial);
    ESPALIER_RETURN_IF_ERROR(folder.Revoke(meant.front().signer, serials, now));
    for (const Issued& issued : meant) {
      rows.push_back(RowOf(issued, folder.record()));
      shown.push_back(fmt::format("{} ({})", issued.serial, issued.identity.name));
    }
  }
  ESPALIER_ASSIGN_OR_RETURN(const bool printed,
                            PrintAsData(context, folder, options.place.dir, rows, now));
  if (!printed) {
    context.out << base::Printable(
        fmt::format("Revoked {}; copy {}/crl.pem to every coordinator that does not use a folder "
                    "here\n",
                    ListOf(shown), folder.PathOf("authority")),
        {.keep = "\n"});
  }
  return kExitDone;
}

}  // namespace

void AddCertRevoke(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<RevokeOptions>();
  CLI::App* command = parent.add_subcommand("revoke", kDescription);
  command->add_option("NAME", options->name, "Whose certificates");
  command->add_option("--serial", options->serial, "One certificate, by its serial number")
      ->type_name("HEX");
  command->add_flag("--worker", options->worker,
                    "The number is of a certificate that a coordinator gave to a worker");
  AddDir(*command, options->place);
  AddPassphraseFile(*command, options->place,
                    "File whose first line is the passphrase of the root's key");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Revoke(context, *options); };
  });
}

}  // namespace espalier::cli::cert
