// Certificates of a folder as commands print them. Pure functions but for what a Folder reads.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/cli/commands/cert/folder.h"
#include "client/cli/context.h"

namespace espalier::cli::cert {

inline constexpr int kSoonDays = 30;

// A certificate as a line of a table.
struct Row {
  std::string name;
  std::string role;  // that of its identity, or "authority"
  std::vector<std::string> hosts = {};
  std::string serial;
  absl::Time not_after;
  bool revoked = false;
  bool replaced = false;  // by a newer one of the name
};

// Whole days until then, below 0 when it has passed.
int64_t DaysLeft(absl::Time not_after, absl::Time now);
// "VALID", "ENDS_SOON", "EXPIRED", "REVOKED" or "REPLACED".
std::string StateOf(const Row& row, absl::Time now);
Row RowOf(const Issued& issued, const Register& record);
// The authorities, then what counts of the register: the newest of each name, and earlier ones that have not ended.
absl::StatusOr<std::vector<Row>> RowsOf(const Folder& folder, absl::Time now);

void PrintRows(Context& context, const std::vector<Row>& rows, absl::Time now);
// True when the rows were printed because the user asked for a format for programs.
absl::StatusOr<bool> PrintAsData(Context& context, const Folder& folder, const std::string& dir,
                                 const std::vector<Row>& rows, absl::Time now);

// "2027-03-01".
std::string DateOf(absl::Time time);
// "a, b and c".
std::string ListOf(const std::vector<std::string>& words);

}  // namespace espalier::cli::cert
