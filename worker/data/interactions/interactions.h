// InteractionData: which users had which items, split for training and evaluation.
//
// Shapes:      CSR lists, one row per user, int32 item indices. Users and items are numbered 0, 1,
//              … in the order of their ids: by value when all ids are integers, else by text.
// Memory:      4 bytes per interaction and 12 per user, and the ids: 8 bytes each when they are
//              integers.
// Ownership:   handed out as std::shared_ptr<const InteractionData>.
// Threading:   immutable; shared freely.
// Determinism: a pure function of the files, the spec and the seed: every worker with the same
//              files has the same numbers.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/load_options.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

// Lists of items, one for each user.
struct ItemLists {
  std::vector<int32_t> offsets = {0};  // users + 1
  std::vector<int32_t> items;

  int32_t rows() const { return static_cast<int32_t>(offsets.size()) - 1; }
  int64_t size() const { return static_cast<int64_t>(items.size()); }
  std::span<const int32_t> row(int32_t user) const {
    return std::span(items).subspan(offsets[user], offsets[user + 1] - offsets[user]);
  }
};

// What ids of users or items are called in the files, by index.
class IdMap {
 public:
  IdMap() = default;
  // Distinct ids; `order` receives for each of `ids` its index.
  IdMap(const std::vector<std::string>& ids, std::vector<int32_t>& order);
  // 0 … count − 1 themselves.
  static IdMap Identity(int32_t count);

  int32_t size() const;
  std::string Name(int32_t index) const;
  std::optional<int32_t> Find(std::string_view name) const;

 private:
  bool numeric_ = true;
  std::vector<int64_t> numbers_;    // ascending
  std::vector<std::string> words_;  // ascending; unless numeric_
};

// What was put right while reading. None of it stops a job; the worker says it once in its log.
struct InteractionNotes {
  int64_t duplicates = 0;          // (user, item) pairs that came again; the first counts
  int64_t low_ratings = 0;         // below min_rating
  int64_t below_core = 0;          // interactions of users and items below user_core, item_core
  int64_t tested_in_training = 0;  // of a given test file that are training interactions as well
  int64_t users_without_training = 0;  // never drawn in training; still evaluated
  // Interactions of held-out users with items that no training user had: left out.
  int64_t untrained_items = 0;
};

struct InteractionData {
  std::string name;
  std::string format;  // "movielens", "lightgcn" or "interactions_csv"
  int32_t users = 0;
  int32_t items = 0;
  ItemLists train;  // items of a user ascend
  ItemLists
      known;  // had, but not trained on: fold-in of held-out users, validation items when testing
  ItemLists asked;  // what evaluation looks for
  IdMap user_ids;
  IdMap item_ids;
  InteractionNotes notes;

  // Training and known items of a user, ascending.
  std::vector<int32_t> Had(int32_t user) const;
  int64_t memory_bytes() const;
};

// Reads, filters and splits `spec.dataset`. `spec.interactions` says how.
// Errors:      those of load.h: DATASET_INVALID names the file, the line and the fix.
absl::StatusOr<std::shared_ptr<const InteractionData>> LoadInteractions(
    const DataRoot& root, const v1::DataSpec& spec, uint64_t seed, const LoadOptions& options = {});
absl::StatusOr<std::shared_ptr<const InteractionData>> LoadInteractions(
    const std::string& root, const v1::DataSpec& spec, uint64_t seed,
    const LoadOptions& options = {});

// Users of shard `shard`, ascending: equal parts of a random order. Over all shards every user
// occurs once. LOCAL: all of them.
// Errors:      PARTITION_IMPOSSIBLE with fewer users than shards; DATA_SPEC_INVALID.
absl::StatusOr<std::vector<int32_t>> UsersOfShard(int32_t users, const v1::Partition& partition,
                                                  uint64_t seed, int shard);

// The shard that has user `user` < `users`; not for LOCAL. Errors: PARTITION_IMPOSSIBLE.
absl::StatusOr<int> ShardOfUser(int32_t users, const v1::Partition& partition, uint64_t seed,
                                int32_t user);

// What a worker says of a folder before a job exists.
struct InteractionReading {
  v1::DatasetInfo info;
  // The names of the files, or of the columns, say that these are interactions. Otherwise they are
  // a table of 2 to 4 columns without such names, which may as well hold labelled examples: whoever
  // describes the folder reads it as examples, too. When that works, the description has features
  // and classes of that reading, its format ("csv"), and `users`, `items` and `interactions` of
  // this one; when it does not, this reading is the description. Which it is, the job decides.
  bool certain = false;
};

// Counts before any filter, when the folder's files can be interactions; nothing for other folders.
// Of what is certain, name and format alone when counting takes more than `options` allow.
// Errors:      those of load.h, for what is certain.
absl::StatusOr<std::optional<InteractionReading>> DescribeInteractions(
    const DataRoot& root, const std::string& dataset, const std::vector<FileEntry>& files,
    const LoadOptions& options);

// The files that a job of this view reads: those of the interactions, and what is known of users
// and items beside them.
std::vector<std::string> InteractionFileNames(const v1::DataSpec& view,
                                              const std::vector<FileEntry>& files);

// `view.dataset` as the job sees it that has `view`, of which format, filters, partition and how
// tables are read count: users, items and interactions are those that LoadInteractions() finds, so
// that model.recommender.users and .items are right with them. train_examples are those of the
// training file, test_examples those of a test file that is the split. With partition LOCAL users
// are those of this worker, and items the largest id + 1.
// Errors:      those of LoadInteractions().
absl::StatusOr<v1::DatasetInfo> DescribeInteractions(const DataRoot& root, const v1::DataSpec& view,
                                                     const LoadOptions& options);

}  // namespace espalier::worker::data
