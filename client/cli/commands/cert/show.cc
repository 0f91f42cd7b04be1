#include "client/cli/commands/cert/show.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/str_join.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli::cert {
namespace {

std::string TimeText(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", time, absl::UTCTimeZone());
}

Row AuthorityRow(const std::string& name, const pki::Certificate& certificate) {
  return {.name = name,
          .role = "authority",
          .serial = certificate.serial,
          .not_after = certificate.not_after};
}

Json JsonOfRow(const Row& row, absl::Time now) {
  Json json;
  json["name"] = row.name;
  json["role"] = absl::AsciiStrToUpper(row.role);
  json["state"] = StateOf(row, now);
  json["hosts"] = row.hosts;
  json["serial"] = row.serial;
  json["expire_time"] = TimeText(row.not_after);
  json["days_left"] = DaysLeft(row.not_after, now);
  return json;
}

}  // namespace

int64_t DaysLeft(absl::Time not_after, absl::Time now) {
  return absl::ToInt64Hours(absl::Floor(not_after - now, kDay)) / 24;
}

std::string StateOf(const Row& row, absl::Time now) {
  if (row.revoked) return "REVOKED";
  if (row.not_after <= now) return "EXPIRED";
  if (row.replaced) return "REPLACED";
  return DaysLeft(row.not_after, now) < kSoonDays ? "ENDS_SOON" : "VALID";
}

Row RowOf(const Issued& issued, const Register& record) {
  const Issued* newest = record.Newest(issued.identity.name);
  return {.name = issued.identity.name,
          .role = std::string(pki::NameOf(issued.identity.role)),
          .hosts = issued.hosts,
          .serial = issued.serial,
          .not_after = issued.not_after,
          .revoked = record.IsRevoked(issued.signer, issued.serial),
          .replaced = newest != nullptr && newest->serial != issued.serial};
}

absl::StatusOr<std::vector<Row>> RowsOf(const Folder& folder, absl::Time now) {
  ESPALIER_ASSIGN_OR_RETURN(const pki::Certificate root, folder.AuthorityNamed("ca.pem"));
  ESPALIER_ASSIGN_OR_RETURN(const pki::Certificate workers, folder.AuthorityNamed("workers.pem"));
  std::vector<Row> rows;
  const std::vector<Issued>& issued = folder.record().issued();
  for (auto i = issued.rbegin(); i != issued.rend(); ++i) {
    Row row = RowOf(*i, folder.record());
    if (!row.replaced || row.not_after > now) rows.push_back(std::move(row));
  }
  // The newest of a name stays first.
  std::ranges::stable_sort(rows, {}, &Row::name);
  rows.insert(rows.begin(), {AuthorityRow("root", root), AuthorityRow("workers", workers)});
  return rows;
}

void PrintRows(Context& context, const std::vector<Row>& rows, absl::Time now) {
  Table table({{"NAME"},
               {"ROLE"},
               {"STATE"},
               {"DAYS LEFT", true},
               {"ENDS", false, 1},
               {.title = "HOSTS", .wrap = true},
               {"SERIAL", false, 2}});
  for (const Row& row : rows) {
    table.Add({row.name, row.role, StateOf(row, now), std::to_string(DaysLeft(row.not_after, now)),
               DateOf(row.not_after), row.hosts.empty() ? "-" : absl::StrJoin(row.hosts, ", "),
               row.serial});
  }
  table.Print(context.out, context.out_terminal);
}

absl::StatusOr<bool> PrintAsData(Context& context, const Folder& folder, const std::string& dir,
                                 const std::vector<Row>& rows, absl::Time now) {
  if (context.options.format == Format::kTable) return false;
  ESPALIER_ASSIGN_OR_RETURN(const absl::Time lists_end, folder.ListsEnd());
  Json json;
  json["folder"] = dir;
  json["certificates"] = Json::array();
  for (const Row& row : rows) json["certificates"].push_back(JsonOfRow(row, now));
  json["lists_expire_time"] = TimeText(lists_end);
  PrintData(context.out, context.options.format, json);
  return true;
}

std::string DateOf(absl::Time time) {
  return absl::FormatTime("%Y-%m-%d", time, absl::UTCTimeZone());
}

std::string ListOf(const std::vector<std::string>& words) {
  if (words.size() < 2) return config::Joined(words, "");
  return config::Joined({words.begin(), words.end() - 1}, ", ") + " and " + words.back();
}

}  // namespace espalier::cli::cert
