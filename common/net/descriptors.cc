#include "common/net/descriptors.h"

#include <sys/resource.h>

#include <algorithm>

#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::net {
namespace {

constexpr rlim_t kMost = 1'000'000;
constexpr int kLeastReserve = 8;
constexpr int kMostReserve = 256;

}  // namespace

DescriptorBudget DivideDescriptors(int limit) {
  const int reserve = std::clamp(limit / 4, kLeastReserve, kMostReserve);
  return {limit, limit - reserve, reserve / 4, limit - reserve / 2};
}

absl::StatusOr<DescriptorBudget> RaiseDescriptorLimit(int least) {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  const rlim_t wanted = std::min(limit.rlim_max, kMost);
  if (limit.rlim_cur < wanted) {
    limit.rlim_cur = wanted;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
  }
  const int found = static_cast<int>(std::min(limit.rlim_cur, kMost));
  if (found < least) {
    return base::FailedPrecondition(
        "TOO_FEW_DESCRIPTORS",
        fmt::format("expected a limit of at least {} open files, found {}; raise it with `ulimit "
                    "-n`, or LimitNOFILE in a service file",
                    least, found));
  }
  return DivideDescriptors(found);
}

}  // namespace espalier::net
