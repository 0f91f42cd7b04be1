// Quotas: how much of a cluster each of its users may take.
//
//     default:                    # of users that are not named below
//       jobs: 10
//       running_tasks: 8
//       checkpoint_bytes: 20GB
//     users:
//       ada: {jobs: 50, checkpoint_bytes: unlimited}
//
// What is not said of a user is as in `default`, and what is not said there has no limit. Jobs without
// an owner have no quota.
//
// Units:     tasks and jobs; bytes, in files also with KB, MB, GB and TB (of 1000) or KiB, MiB, GiB and
//            TiB (of 1024).
// Limits:    kMaxQuotaUsers users.
// Threading, determinism: pure functions.
// Errors:    InvalidArgument INVALID_QUOTAS, with the lines of the file.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace espalier::config {

inline constexpr size_t kMaxQuotaUsers = 10'000;

// Absent: no limit.
struct Quota {
  std::optional<int64_t> jobs;              // that have not ended
  std::optional<int64_t> running_tasks;     // of all jobs, at a time
  std::optional<int64_t> checkpoint_bytes;  // of all checkpoints

  bool operator==(const Quota&) const = default;
};

struct Quotas {
  Quota everyone;                      // of users that are not among `users`
  std::map<std::string, Quota> users;  // complete: with what holds for everyone

  // What holds for this user; for "", nothing.
  const Quota& Of(const std::string& owner) const;
};

// `file` is for messages.
absl::StatusOr<Quotas> ParseQuotas(std::string_view text, const std::string& file);

}  // namespace espalier::config
