#include "worker/data/interactions/prepare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <tuple>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "worker/data/errors.h"

namespace espalier::worker::data {
namespace {

using Entries = std::vector<RawInteractions::Entry>;
using Interactions = v1::Interactions;

constexpr double kDefaultTestRatio = 0.2;
constexpr double kDefaultFoldIn = 0.8;
constexpr int32_t kDefaultHeldOutUsers = 500;
constexpr int64_t kPairsOfSortedFile = 1000;

// Interactions of users and items that are in `keep`; returns how many go.
template <typename Keep>
int64_t EraseUnless(Entries& entries, const Keep& keep) {
  return static_cast<int64_t>(
      std::erase_if(entries, [&](const RawInteractions::Entry& entry) { return !keep(entry); }));
}

// One round of the k-core: what goes may bring others below.
int64_t EraseBelowCore(const Interactions& spec, RawInteractions& raw) {
  std::vector<int32_t> by_user(raw.users.size());
  std::vector<int32_t> by_item(raw.items.size());
  for (const auto& entry : raw.train) {
    ++by_user[entry.user];
    ++by_item[entry.item];
  }
  return EraseUnless(raw.train, [&](const auto& entry) {
    return by_user[entry.user] >= spec.user_core() && by_item[entry.item] >= spec.item_core();
  });
}

// Names that no interaction has any more go; numbers follow.
void Compact(const std::vector<Entries*>& parts, int32_t RawInteractions::Entry::*field,
             std::vector<std::string>& names) {
  std::vector<int32_t> numbers(names.size(), -1);
  std::vector<std::string> kept;
  for (const Entries* part : parts) {
    for (const auto& entry : *part) {
      int32_t& number = numbers[entry.*field];
      if (number >= 0) continue;
      number = static_cast<int32_t>(kept.size());
      kept.push_back(names[entry.*field]);
    }
  }
  for (Entries* part : parts) {
    for (auto& entry : *part) entry.*field = numbers[entry.*field];
  }
  names = std::move(kept);
}

// The entries by user in their order.
class ByUser {
 public:
  ByUser(const Entries& entries, size_t users) : offsets_(users + 1), items_(entries.size()) {
    for (const auto& entry : entries) ++offsets_[entry.user + 1];
    std::partial_sum(offsets_.begin(), offsets_.end(), offsets_.begin());
    std::vector<int32_t> next(offsets_.begin(), offsets_.end() - 1);
    for (const auto& entry : entries) items_[next[entry.user]++] = entry.item;
  }
  std::span<int32_t> row(int32_t user) {
    return std::span(items_).subspan(offsets_[user], offsets_[user + 1] - offsets_[user]);
  }

 private:
  std::vector<int32_t> offsets_;
  std::vector<int32_t> items_;
};

// Appends one user's items, ascending.
void AppendRow(std::span<const int32_t> items, ItemLists& lists) {
  lists.items.insert(lists.items.end(), items.begin(), items.end());
  std::sort(lists.items.begin() + lists.offsets.back(), lists.items.end());
  lists.offsets.push_back(static_cast<int32_t>(lists.items.size()));
}

// A user's items, in order, cut into the three parts.
struct Cut {
  size_t train = 0;  // the first items
  size_t known = 0;  // those after them; the rest is asked for
};

Cut LeaveOneOut(size_t count, bool validate) {
  if (count < 2) return {count, 0};
  if (count == 2) return validate ? Cut{1, 1} : Cut{1, 0};
  // … training, validation, test.
  return validate ? Cut{count - 2, 0} : Cut{count - 2, 1};
}

// Whether the items of every user ascend, in so many places that it is not by chance: then the file
// is sorted by item (their numbers have the order of their ids), and a user's last one tells
// nothing of time.
bool IsSortedByItem(int32_t users, ByUser& by_user) {
  int64_t pairs = 0;
  for (int32_t user = 0; user < users; ++user) {
    const auto items = by_user.row(user);
    if (!std::is_sorted(items.begin(), items.end())) return false;
    pairs += std::max<int64_t>(std::ssize(items) - 1, 0);
  }
  return pairs >= kPairsOfSortedFile;
}

absl::Status SplitInOrder(const Interactions& spec, const std::string& file,
                          const LoadOptions& options, ByUser& by_user, InteractionData& data) {
  if (!spec.order_by_time() && IsSortedByItem(data.users, by_user)) {
    return DatasetInvalid(
        file, {"",
               "each user's interactions in the order in which they happened, as the last one is "
               "held out",
               "every user's items in ascending order: the file is sorted by item",
               "use data.interactions.split: ratio, or order_by_time: true where it has times"});
  }
  for (int32_t user = 0; user < data.users; ++user) {
    ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
    const auto items = by_user.row(user);
    const Cut cut = LeaveOneOut(items.size(), spec.validate());
    AppendRow(items.first(cut.train), data.train);
    AppendRow(items.subspan(cut.train, cut.known), data.known);
    // When validating, the test item is nobody's.
    const bool one_more = spec.validate() && items.size() > 2;
    AppendRow(
        items.subspan(cut.train + cut.known, one_more ? 1 : items.size() - cut.train - cut.known),
        data.asked);
  }
  return absl::OkStatus();
}

void SplitByRatio(double ratio, std::string_view purpose, uint64_t seed, int32_t user,
                  std::span<int32_t> items, ItemLists& given, ItemLists& asked) {
  base::Rng rng(base::StreamKey(seed, purpose, {static_cast<uint64_t>(user)}));
  base::Shuffle(items, rng);
  const auto count = static_cast<size_t>(ratio * static_cast<double>(items.size()) + 1e-9);
  AppendRow(items.subspan(count), given);
  AppendRow(items.first(count), asked);
}

enum class Role { kTrain, kValidation, kTest };

std::vector<Role> HoldOut(int32_t users, int32_t held_out, uint64_t seed) {
  std::vector<int32_t> order(users);
  std::iota(order.begin(), order.end(), 0);
  base::Rng rng(base::StreamKey(seed, "held-out-users"));
  base::Shuffle(std::span(order), rng);
  std::vector<Role> roles(users, Role::kTrain);
  for (int32_t i = 0; i < 2 * held_out; ++i) {
    roles[order[i]] = i < held_out ? Role::kTest : Role::kValidation;
  }
  return roles;
}

// By item whether users of a role had it.
std::vector<bool> ItemsOf(Role role, const std::vector<Role>& roles, int32_t items,
                          ByUser& by_user) {
  std::vector<bool> had(items);
  for (size_t user = 0; user < roles.size(); ++user) {
    if (roles[user] != role) continue;
    for (const int32_t item : by_user.row(static_cast<int32_t>(user))) had[item] = true;
  }
  return had;
}

// As in the published evaluation (Liang et al. 2018, section 4.1 and their code), items that no
// training user had are left out of what held-out users did: a model cannot know them.
absl::Status SplitByUsers(const Interactions& spec, const std::string& file,
                          const LoadOptions& options, uint64_t seed, ByUser& by_user,
                          InteractionData& data) {
  const int32_t held_out =
      spec.held_out_users() == 0 ? kDefaultHeldOutUsers : spec.held_out_users();
  const double fold_in = spec.fold_in() == 0 ? kDefaultFoldIn : spec.fold_in();
  if (int64_t{2} * held_out >= data.users) {
    return DatasetInvalid(
        file, {"",
               fmt::format("more than {} users, twice data.interactions.held_out_users",
                           int64_t{2} * held_out),
               fmt::format("{}", data.users), "lower data.interactions.held_out_users"});
  }
  const std::vector<Role> roles = HoldOut(data.users, held_out, seed);
  const std::vector<bool> trained = ItemsOf(Role::kTrain, roles, data.items, by_user);
  const Role asked = spec.validate() ? Role::kValidation : Role::kTest;
  for (int32_t user = 0; user < data.users; ++user) {
    ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
    const auto items = by_user.row(user);
    AppendRow(roles[user] == Role::kTrain ? items : std::span<int32_t>(), data.train);
    if (roles[user] == asked) {
      const auto unknown = std::stable_partition(items.begin(), items.end(),
                                                 [&](int32_t item) { return trained[item]; });
      data.notes.untrained_items += items.end() - unknown;
      SplitByRatio(1 - fold_in, "fold-in", seed, user, {items.begin(), unknown}, data.known,
                   data.asked);
    } else {
      AppendRow({}, data.known);
      AppendRow({}, data.asked);
    }
  }
  return absl::OkStatus();
}

}  // namespace

Interactions::Split SplitOf(const Interactions& spec, bool has_test_file) {
  if (spec.split() != Interactions::SPLIT_UNSPECIFIED) return spec.split();
  return has_test_file ? Interactions::SPLIT_GIVEN : Interactions::SPLIT_LEAVE_ONE_OUT;
}

absl::Status Deduplicate(const LoadOptions& options, RawInteractions& raw,
                         InteractionNotes& notes) {
  // Of train and test, so that what is in training already is not asked for.
  Entries all = std::move(raw.train);
  const size_t train = all.size();
  all.insert(all.end(), raw.test.begin(), raw.test.end());
  raw.test.clear();
  std::vector<int32_t> order(all.size());
  std::iota(order.begin(), order.end(), 0);
  ESPALIER_RETURN_IF_ERROR(SortUnlessCancelled(
      options, [&](const auto& less) { std::sort(order.begin(), order.end(), less); },
      [&](int32_t a, int32_t b) {
        return std::tie(all[a].user, all[a].item, a) < std::tie(all[b].user, all[b].item, b);
      }));
  std::vector<bool> again(all.size());
  for (size_t i = 1; i < order.size(); ++i) {
    const int32_t before = order[i - 1];
    const int32_t here = order[i];
    if (all[before].user != all[here].user || all[before].item != all[here].item) continue;
    again[here] = true;
    // The first of the pair stays, so `before` may itself be a repetition.
    const bool leaked = static_cast<size_t>(here) >= train && static_cast<size_t>(before) < train;
    ++(leaked ? notes.tested_in_training : notes.duplicates);
  }
  order = {};
  raw.train.clear();
  for (size_t i = 0; i < all.size(); ++i) {
    if (!again[i]) (i < train ? raw.train : raw.test).push_back(all[i]);
  }
  return options.CheckGoesOn();
}

absl::Status Filter(const Interactions& spec, const std::string& file, const LoadOptions& options,
                    RawInteractions& raw, InteractionNotes& notes) {
  ESPALIER_RETURN_IF_ERROR(Deduplicate(options, raw, notes));
  const bool has_cores = spec.user_core() > 0 || spec.item_core() > 0;
  if (has_cores) {
    while (const int64_t gone = EraseBelowCore(spec, raw)) {
      notes.below_core += gone;
      ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
    }
    std::vector<bool> users(raw.users.size());
    std::vector<bool> items(raw.items.size());
    for (const auto& entry : raw.train) users[entry.user] = items[entry.item] = true;
    notes.below_core += EraseUnless(
        raw.test, [&](const auto& entry) { return users[entry.user] && items[entry.item]; });
  }
  if (raw.train.empty()) {
    return DatasetInvalid(file,
                          {"", "interactions that pass min_rating, user_core and item_core", "none",
                           "lower data.interactions.min_rating, user_core or item_core"});
  }
  // Without, users that a file lists with no items stay.
  if (!has_cores) return absl::OkStatus();
  Compact({&raw.train, &raw.test}, &RawInteractions::Entry::user, raw.users);
  Compact({&raw.train, &raw.test}, &RawInteractions::Entry::item, raw.items);
  return absl::OkStatus();
}

absl::Status Split(const Interactions& spec, const std::string& file, const LoadOptions& options,
                   uint64_t seed, const RawInteractions& raw, InteractionData& data) {
  ByUser by_user(raw.train, data.users);
  const Interactions::Split split = SplitOf(spec, !raw.test.empty());
  if (split == Interactions::SPLIT_LEAVE_ONE_OUT) {
    ESPALIER_RETURN_IF_ERROR(SplitInOrder(spec, file, options, by_user, data));
  }
  if (split == Interactions::SPLIT_HELD_OUT_USERS) {
    ESPALIER_RETURN_IF_ERROR(SplitByUsers(spec, file, options, seed, by_user, data));
  }
  if (split == Interactions::SPLIT_RATIO) {
    const double ratio = spec.test_ratio() == 0 ? kDefaultTestRatio : spec.test_ratio();
    for (int32_t user = 0; user < data.users; ++user) {
      ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
      SplitByRatio(ratio, "test-ratio", seed, user, by_user.row(user), data.train, data.asked);
      AppendRow({}, data.known);
    }
  }
  if (split == Interactions::SPLIT_GIVEN) {
    ByUser test(raw.test, data.users);
    for (int32_t user = 0; user < data.users; ++user) {
      ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
      AppendRow(by_user.row(user), data.train);
      AppendRow({}, data.known);
      AppendRow(test.row(user), data.asked);
    }
  }
  for (int32_t user = 0; user < data.users && split != Interactions::SPLIT_HELD_OUT_USERS; ++user) {
    if (data.train.row(user).empty()) ++data.notes.users_without_training;
  }
  if (data.train.items.empty()) {
    return DatasetInvalid(file, {"", "interactions for training after the split", "none",
                                 "use another data.interactions.split or more data"});
  }
  return absl::OkStatus();
}

}  // namespace espalier::worker::data
