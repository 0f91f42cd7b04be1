// Interactions: which items each user interacted with, as rows of item ids.
//
// Shapes:     users × items, binary; CSR: row u holds the items of user u, ascending, distinct.
//             Held-out sets (test, validation) and lists of candidates have the same form.
// Users:      indices count the rows at hand: those of all users, or of the users a worker owns.
// Memory:     4 bytes per interaction, 8 per user. Never users × items.
// Threading:  immutable after construction.
// Errors:     Create() returns InvalidArgument naming the row; other members assume valid indices.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::worker::recommender {

class Interactions {
 public:
  // No users.
  Interactions() = default;

  // `offsets` has users + 1 entries, from 0 to items_of_users.size(), never falling.
  // Errors: InvalidArgument: INTERACTIONS_SHAPE for offsets that do not fit, ITEM_OUT_OF_RANGE,
  // DUPLICATE_INTERACTION, INTERACTIONS_ORDER for items that do not ascend within a user.
  static absl::StatusOr<Interactions> Create(int64_t items, std::vector<int64_t> offsets,
                                             std::vector<int32_t> items_of_users);

  int64_t users() const { return static_cast<int64_t>(offsets_.size()) - 1; }
  int64_t items() const { return items_; }
  int64_t size() const { return static_cast<int64_t>(columns_.size()); }

  // The items of one user, ascending.
  std::span<const int32_t> Of(int64_t user) const {
    return std::span(columns_).subspan(offsets_[user], offsets_[user + 1] - offsets_[user]);
  }
  int64_t CountOf(int64_t user) const { return offsets_[user + 1] - offsets_[user]; }
  bool Contains(int64_t user, int32_t item) const;
  // The user of an interaction, counted in row order. O(log users).
  int64_t UserOf(int64_t interaction) const;

  std::span<const int64_t> offsets() const { return offsets_; }
  std::span<const int32_t> columns() const { return columns_; }

  friend bool operator==(const Interactions&, const Interactions&) = default;

 private:
  int64_t items_ = 0;
  std::vector<int64_t> offsets_ = {0};
  std::vector<int32_t> columns_;
};

// `count` items for each user, drawn without replacement among those in neither set: the fixed
// negatives of a leave-one-out evaluation. Fewer where fewer are left. The items of user u come
// from StreamKey(key, "negatives", {u}), ascending. Both sets have the same users and items.
Interactions DrawNegatives(const Interactions& train, const Interactions& held_out, int64_t count,
                           uint64_t key);

}  // namespace espalier::worker::recommender
