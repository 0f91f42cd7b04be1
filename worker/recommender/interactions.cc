#include "worker/recommender/interactions.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/random_topology.h"

namespace espalier::worker::recommender {
namespace {

absl::Status CheckOffsets(const std::vector<int64_t>& offsets, size_t size) {
  const bool fits = !offsets.empty() && offsets.front() == 0 &&
                    offsets.back() == static_cast<int64_t>(size) &&
                    std::is_sorted(offsets.begin(), offsets.end());
  if (fits) return absl::OkStatus();
  return base::InvalidArgument(
      "INTERACTIONS_SHAPE",
      fmt::format("expected offsets that rise from 0 to the {} interactions", size));
}

absl::Status CheckUser(int64_t user, std::span<const int32_t> row, int64_t items) {
  for (size_t k = 0; k < row.size(); ++k) {
    if (row[k] < 0 || row[k] >= items) {
      return base::InvalidArgument(
          "ITEM_OUT_OF_RANGE",
          fmt::format("user {}: expected items 0..{}, found {}", user, items - 1, row[k]));
    }
    if (k == 0 || row[k - 1] < row[k]) continue;
    if (row[k - 1] == row[k]) {
      return base::InvalidArgument(
          "DUPLICATE_INTERACTION",
          fmt::format("user {}: item {} occurs twice; keep one of them", user, row[k]));
    }
    return base::InvalidArgument("INTERACTIONS_ORDER",
                                 fmt::format("user {}: expected ascending items, found {} after {}",
                                             user, row[k], row[k - 1]));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Interactions> Interactions::Create(int64_t items, std::vector<int64_t> offsets,
                                                  std::vector<int32_t> items_of_users) {
  ESPALIER_RETURN_IF_ERROR(CheckOffsets(offsets, items_of_users.size()));
  Interactions result;
  result.items_ = items;
  result.offsets_ = std::move(offsets);
  result.columns_ = std::move(items_of_users);
  for (int64_t user = 0; user < result.users(); ++user) {
    ESPALIER_RETURN_IF_ERROR(CheckUser(user, result.Of(user), items));
  }
  return result;
}

bool Interactions::Contains(int64_t user, int32_t item) const {
  const auto row = Of(user);
  return std::binary_search(row.begin(), row.end(), item);
}

int64_t Interactions::UserOf(int64_t interaction) const {
  return std::upper_bound(offsets_.begin(), offsets_.end(), interaction) - offsets_.begin() - 1;
}

Interactions DrawNegatives(const Interactions& train, const Interactions& held_out, int64_t count,
                           uint64_t key) {
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> columns;
  std::vector<int32_t> known;
  for (int64_t user = 0; user < train.users(); ++user) {
    known.clear();
    std::ranges::set_union(train.Of(user), held_out.Of(user), std::back_inserter(known));
    const int64_t left = train.items() - static_cast<int64_t>(known.size());
    const std::vector<int64_t> ranks =
        sparsity::DrawPositions(base::StreamKey(key, "negatives", {static_cast<uint64_t>(user)}),
                                std::min(count, left), left);
    // The item of rank r among the unknown is r plus the known ones below it.
    size_t below = 0;
    for (const int64_t rank : ranks) {
      while (below < known.size() && known[below] <= rank + static_cast<int64_t>(below)) ++below;
      columns.push_back(static_cast<int32_t>(rank + static_cast<int64_t>(below)));
    }
    offsets.push_back(static_cast<int64_t>(columns.size()));
  }
  return *Interactions::Create(train.items(), std::move(offsets), std::move(columns));
}

}  // namespace espalier::worker::recommender
