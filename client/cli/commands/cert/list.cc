#include <algorithm>

#include "absl/time/clock.h"
#include "client/cli/commands/cert/cert.h"
#include "client/cli/commands/cert/show.h"
#include "client/cli/exit_code.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli::cert {
namespace {

constexpr char kDescription[] = R"(List certificates: who has one, until when, and which are revoked

Examples:
  espalier cert list
  espalier cert list -o json | jq '.certificates[] | {name, days_left}'

STATE is VALID, ENDS_SOON (within 30 days), EXPIRED, REVOKED, or REPLACED where
a newer one of the name was made and this one has not ended. Certificates that
workers got with join tokens are not here: espalier worker list shows them.)";

absl::StatusOr<int> List(Context& context, const Place& place) {
  const absl::Time now = absl::Now();
  ESPALIER_ASSIGN_OR_RETURN(const Folder folder, Folder::Open(place, Access::kRead));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<Row> rows, RowsOf(folder, now));
  ESPALIER_ASSIGN_OR_RETURN(const bool printed, PrintAsData(context, folder, place.dir, rows, now));
  if (printed) return kExitDone;
  PrintRows(context, rows, now);
  const bool soon =
      std::ranges::any_of(rows, [now](const Row& row) { return StateOf(row, now) == "ENDS_SOON"; });
  if (soon) context.err << "Renew what ends soon: espalier cert renew NAME\n";
  ESPALIER_ASSIGN_OR_RETURN(const absl::Time lists_end, folder.ListsEnd());
  constexpr absl::Duration kWeek = absl::Hours(24 * 7);
  if (lists_end < now + kWeek) {
    context.err << fmt::format(
        "The lists of revoked certificates {} renewed by {}: espalier cert renew --crl\n",
        lists_end < now ? "should have been" : "should be", DateOf(lists_end));
  }
  return kExitDone;
}

}  // namespace

void AddCertList(CLI::App& parent, Command& chosen) {
  auto place = std::make_shared<Place>();
  CLI::App* command = parent.add_subcommand("list", kDescription);
  AddDir(*command, *place);
  command->callback(
      [&chosen, place] { chosen = [place](Context& context) { return List(context, *place); }; });
}

}  // namespace espalier::cli::cert
