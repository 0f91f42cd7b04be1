#include "worker/data/interactions/interactions.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <numeric>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "worker/data/errors.h"
#include "worker/data/interactions/cells.h"
#include "worker/data/interactions/columns.h"
#include "worker/data/interactions/fields.h"
#include "worker/data/interactions/lines.h"
#include "worker/data/interactions/prepare.h"
#include "worker/data/interactions/read.h"
#include "worker/data/load.h"

namespace espalier::worker::data {
namespace {

std::optional<int64_t> Integer(std::string_view text) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool whole = error == std::errc() && end == text.data() + text.size();
  // "007" and "7" are two names.
  return whole && std::to_string(value) == text ? std::optional(value) : std::nullopt;
}

// Indices into `keys` in ascending order of them; order[i] becomes the place of keys[i].
template <typename T>
std::vector<T> Sorted(const std::vector<T>& keys, std::vector<int32_t>& order) {
  std::vector<int32_t> by_key(keys.size());
  std::iota(by_key.begin(), by_key.end(), 0);
  std::sort(by_key.begin(), by_key.end(), [&](int32_t a, int32_t b) { return keys[a] < keys[b]; });
  std::vector<T> sorted;
  sorted.reserve(keys.size());
  order.resize(keys.size());
  for (const int32_t i : by_key) {
    order[i] = static_cast<int32_t>(sorted.size());
    sorted.push_back(keys[i]);
  }
  return sorted;
}

absl::StatusOr<ByteStream> OpenFile(const DataRoot& root, const std::string& dataset,
                                    const std::string& file, const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(UniqueFd fd, root.OpenFile(dataset, file));
  return ByteStream::Open(std::move(fd), dataset + "/" + file, options);
}

bool TestFileIsTheSplit(const v1::Interactions& how, const InteractionFiles& files) {
  return SplitOf(how, !files.test.empty()) == v1::Interactions::SPLIT_GIVEN;
}

absl::Status ReadFiles(const DataRoot& root, const InteractionFiles& files,
                       const v1::DataSpec& view, const LoadOptions& options, RawInteractions& raw,
                       InteractionNotes& notes) {
  const std::string& dataset = view.dataset();
  InteractionReader reader(files.format, view);
  ESPALIER_ASSIGN_OR_RETURN(ByteStream train, OpenFile(root, dataset, files.train, options));
  ESPALIER_RETURN_IF_ERROR(reader.Read(train, raw.train));
  if (!files.test.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(ByteStream test, OpenFile(root, dataset, files.test, options));
    // With another split than that of the files, these are one.
    const bool given = TestFileIsTheSplit(view.interactions(), files);
    ESPALIER_RETURN_IF_ERROR(reader.Read(test, given ? raw.test : raw.train));
  }
  ESPALIER_RETURN_IF_ERROR(reader.Finish(train.name(), options, raw));
  notes.low_ratings = reader.low_ratings();
  return absl::OkStatus();
}

absl::Status CheckSplit(const v1::Interactions& how, const std::string& dataset,
                        const InteractionFiles& files) {
  if (!TestFileIsTheSplit(how, files) || !files.test.empty()) return absl::OkStatus();
  return DatasetInvalid(dataset,
                        {"", "a test file beside the training file for split: given", "none",
                         "add test.txt or test.csv, or use split: leave_one_out or ratio"});
}

// Workers with files of their own must agree on what an item's number means, so it is the id
// itself.
absl::Status TakeItemIdsAsNumbers(const std::string& file, RawInteractions& raw) {
  constexpr int64_t kMost = 100'000'000;  // RecommenderSpec.items
  std::vector<int32_t> numbers;
  int32_t count = 0;
  for (const std::string& name : raw.items) {
    const auto id = Integer(name);
    if (!id.has_value() || *id < 0 || *id >= kMost) {
      return DatasetInvalid(
          file, {"",
                 "items numbered from 0 to model.recommender.items − 1, since each worker has "
                 "files of its own (partition: local)",
                 "item " + Quote(name), "number the items alike on all workers"});
    }
    numbers.push_back(static_cast<int32_t>(*id));
    count = std::max(count, numbers.back() + 1);
  }
  for (auto* part : {&raw.train, &raw.test}) {
    for (auto& entry : *part) entry.item = numbers[entry.item];
  }
  raw.items.resize(count);
  return absl::OkStatus();
}

void Renumber(const std::vector<int32_t>& users, const std::vector<int32_t>* items,
              RawInteractions& raw) {
  for (auto* part : {&raw.train, &raw.test}) {
    for (auto& entry : *part) {
      entry.user = users[entry.user];
      if (items != nullptr) entry.item = (*items)[entry.item];
    }
  }
}

absl::Status NumberIds(bool local, const std::string& file, RawInteractions& raw,
                       InteractionData& data) {
  std::vector<int32_t> users;
  std::vector<int32_t> items;
  data.user_ids = IdMap(raw.users, users);
  if (local) {
    ESPALIER_RETURN_IF_ERROR(TakeItemIdsAsNumbers(file, raw));
    data.item_ids = IdMap::Identity(static_cast<int32_t>(raw.items.size()));
  } else {
    data.item_ids = IdMap(raw.items, items);
  }
  Renumber(users, local ? nullptr : &items, raw);
  data.users = data.user_ids.size();
  data.items = data.item_ids.size();
  raw.users = {};
  raw.items = {};
  return absl::OkStatus();
}

void LogNotes(const InteractionData& data) {
  const InteractionNotes& notes = data.notes;
  log::Info("interactions_read", {{"dataset", data.name},
                                  {"users", data.users},
                                  {"items", data.items},
                                  {"training", data.train.size()},
                                  {"asked", data.asked.size()},
                                  {"duplicates", notes.duplicates},
                                  {"low_ratings", notes.low_ratings},
                                  {"below_core", notes.below_core},
                                  {"tested_in_training", notes.tested_in_training},
                                  {"users_without_training", notes.users_without_training},
                                  {"untrained_items", notes.untrained_items}});
}

// What a data set is in the view of a job, before its split.
struct Prepared {
  std::string file;  // of training, with the data set's name; for messages
  RawInteractions raw;
  InteractionData data;  // name, format, users, items, their ids and notes
};

absl::StatusOr<Prepared> Prepare(const DataRoot& root, const v1::DataSpec& view,
                                 const LoadOptions& options) {
  const v1::Interactions& how = view.interactions();
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<FileEntry> found, root.Files(view.dataset()));
  ESPALIER_ASSIGN_OR_RETURN(const InteractionFiles files,
                            FindInteractionFiles(view.dataset(), found, how.format()));
  ESPALIER_RETURN_IF_ERROR(CheckSplit(how, view.dataset(), files));
  Prepared prepared;
  prepared.data.name = view.dataset();
  prepared.data.format = InteractionFormatName(files.format);
  prepared.file = view.dataset() + "/" + files.train;
  ESPALIER_RETURN_IF_ERROR(
      ReadFiles(root, files, view, options, prepared.raw, prepared.data.notes));
  ESPALIER_RETURN_IF_ERROR(Filter(how, prepared.file, options, prepared.raw, prepared.data.notes));
  const bool local = view.partition().kind() == v1::Partition::KIND_LOCAL;
  ESPALIER_RETURN_IF_ERROR(NumberIds(local, prepared.file, prepared.raw, prepared.data));
  ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
  return prepared;
}

void SetCounts(int64_t users, int64_t items, const RawInteractions& raw, v1::DatasetInfo& info) {
  info.set_users(users);
  info.set_items(items);
  info.set_train_examples(static_cast<int64_t>(raw.train.size()));
  info.set_test_examples(static_cast<int64_t>(raw.test.size()));
  info.set_interactions(info.train_examples() + info.test_examples());
}

// Whether ids are none, as measurements are: numbers that are not whole.
bool LooksLikeIds(const std::vector<std::string>& ids) {
  constexpr size_t kLookedAt = 100;
  return std::none_of(ids.begin(), ids.begin() + std::min(ids.size(), kLookedAt),
                      [](const std::string& id) {
                        return ParseFinite(id).has_value() && !ParseNumber<int64_t>(id).has_value();
                      });
}

// By the first line: whether the table's columns say that it has interactions; nothing for a table
// that cannot have them.
absl::StatusOr<std::optional<bool>> TableIsCertain(ByteStream& stream) {
  TableLines lines = TableLines::Csv(stream);
  ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next());
  if (!more) return std::nullopt;
  if (NamesUserAndItem(lines.cells())) return true;
  const bool possible = lines.cells().size() >= 2 && lines.cells().size() <= 4;
  return possible ? std::optional(false) : std::nullopt;
}

}  // namespace

IdMap::IdMap(const std::vector<std::string>& ids, std::vector<int32_t>& order) {
  for (const std::string& id : ids) {
    const auto number = Integer(id);
    numeric_ = number.has_value();
    if (!numeric_) break;
    numbers_.push_back(*number);
  }
  if (numeric_) {
    numbers_ = Sorted(numbers_, order);
  } else {
    numbers_ = {};
    words_ = Sorted(ids, order);
  }
}

IdMap IdMap::Identity(int32_t count) {
  IdMap map;
  map.numbers_.resize(count);
  std::iota(map.numbers_.begin(), map.numbers_.end(), 0);
  return map;
}

int32_t IdMap::size() const {
  return static_cast<int32_t>(numeric_ ? numbers_.size() : words_.size());
}

std::string IdMap::Name(int32_t index) const {
  return numeric_ ? std::to_string(numbers_[index]) : words_[index];
}

std::optional<int32_t> IdMap::Find(std::string_view name) const {
  const auto place = [&](const auto& sorted, const auto& key) -> std::optional<int32_t> {
    const auto found = std::lower_bound(sorted.begin(), sorted.end(), key);
    if (found == sorted.end() || *found != key) return std::nullopt;
    return static_cast<int32_t>(found - sorted.begin());
  };
  if (!numeric_) return place(words_, std::string(name));
  const auto number = Integer(name);
  return number.has_value() ? place(numbers_, *number) : std::nullopt;
}

std::vector<int32_t> InteractionData::Had(int32_t user) const {
  const auto trained = train.row(user);
  const auto others = known.row(user);
  std::vector<int32_t> had;
  had.reserve(trained.size() + others.size());
  std::merge(trained.begin(), trained.end(), others.begin(), others.end(), std::back_inserter(had));
  return had;
}

int64_t InteractionData::memory_bytes() const {
  const int64_t items_stored = train.size() + known.size() + asked.size();
  return 4 * (items_stored + 3 * (int64_t{users} + 1)) + 8 * (int64_t{users} + items);
}

absl::StatusOr<std::shared_ptr<const InteractionData>> LoadInteractions(
    const DataRoot& root, const v1::DataSpec& spec, uint64_t seed, const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(Prepared prepared, Prepare(root, spec, options));
  auto data = std::make_shared<InteractionData>(std::move(prepared.data));
  ESPALIER_RETURN_IF_ERROR(
      Split(spec.interactions(), prepared.file, options, seed, prepared.raw, *data));
  LogNotes(*data);
  return std::shared_ptr<const InteractionData>(std::move(data));
}

absl::StatusOr<std::shared_ptr<const InteractionData>> LoadInteractions(
    const std::string& root, const v1::DataSpec& spec, uint64_t seed, const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const DataRoot opened, DataRoot::Open(root));
  return LoadInteractions(opened, spec, seed, options);
}

namespace {

// All users in the order in which shards take them.
absl::StatusOr<std::vector<int32_t>> UsersInShardOrder(int32_t users,
                                                       const v1::Partition& partition,
                                                       uint64_t seed) {
  if (users < partition.shards()) {
    return base::InvalidArgument(
        kPartitionImpossible,
        fmt::format("expected at least one user for each of {} shards, found {} users; lower "
                    "data.partition.shards, user_core or min_rating",
                    partition.shards(), users));
  }
  std::vector<int32_t> all(users);
  std::iota(all.begin(), all.end(), 0);
  base::Rng rng(base::StreamKey(seed, "partition/users"));
  base::Shuffle(std::span(all), rng);
  return all;
}

}  // namespace

absl::StatusOr<std::vector<int32_t>> UsersOfShard(int32_t users, const v1::Partition& partition,
                                                  uint64_t seed, int shard) {
  if (partition.kind() == v1::Partition::KIND_LOCAL) {
    std::vector<int32_t> all(users);
    std::iota(all.begin(), all.end(), 0);
    return all;
  }
  const int64_t shards = partition.shards();
  if (shard < 0 || shard >= shards) {
    return base::InvalidArgument(
        kDataSpecInvalid,
        fmt::format("shard: expected 0 to {}, found {}; data.partition.shards must cover every "
                    "participant",
                    shards - 1, shard));
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int32_t> all,
                            UsersInShardOrder(users, partition, seed));
  std::vector<int32_t> mine(all.begin() + users * int64_t{shard} / shards,
                            all.begin() + users * (int64_t{shard} + 1) / shards);
  std::sort(mine.begin(), mine.end());
  return mine;
}

absl::StatusOr<int> ShardOfUser(int32_t users, const v1::Partition& partition, uint64_t seed,
                                int32_t user) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int32_t> all,
                            UsersInShardOrder(users, partition, seed));
  const int64_t place = std::find(all.begin(), all.end(), user) - all.begin();
  // The inverse of where UsersOfShard() cuts: the last shard that begins at or before the place.
  return static_cast<int>(((place + 1) * partition.shards() - 1) / users);
}

absl::StatusOr<std::optional<InteractionReading>> DescribeInteractions(
    const DataRoot& root, const std::string& dataset, const std::vector<FileEntry>& files,
    const LoadOptions& options) {
  const auto found = FindInteractionFiles(dataset, files, v1::Interactions::FORMAT_UNSPECIFIED);
  if (!found.ok()) return std::nullopt;
  InteractionReading reading{{}, true};
  if (found->format == v1::Interactions::FORMAT_CSV) {
    // One line, whatever was read before.
    LoadOptions first_line = options;
    first_line.bytes_left = nullptr;
    first_line.max_file_bytes = std::numeric_limits<int64_t>::max();
    ESPALIER_ASSIGN_OR_RETURN(ByteStream stream, OpenFile(root, dataset, found->train, first_line));
    const auto certain = TableIsCertain(stream);
    if (!certain.ok() || !certain->has_value()) return std::nullopt;
    reading.certain = **certain;
  }
  reading.info.set_name(dataset);
  reading.info.set_format(InteractionFormatName(found->format));
  RawInteractions raw;
  InteractionNotes notes;
  v1::DataSpec view;
  view.set_dataset(dataset);
  const absl::Status read = ReadFiles(root, *found, view, options, raw, notes);
  if (!read.ok() && !reading.certain) return std::nullopt;
  if (base::ReasonOf(read) == kDatasetTooLarge) {
    log::Info("dataset_not_counted", {{"dataset", dataset}, {"message", base::MessageOf(read)}});
    return reading;
  }
  ESPALIER_RETURN_IF_ERROR(read);
  if (!reading.certain && !(LooksLikeIds(raw.users) && LooksLikeIds(raw.items))) {
    return std::nullopt;
  }
  SetCounts(std::ssize(raw.users), std::ssize(raw.items), raw, reading.info);
  return reading;
}

absl::StatusOr<v1::DatasetInfo> DescribeInteractions(const DataRoot& root, const v1::DataSpec& view,
                                                     const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const Prepared prepared, Prepare(root, view, options));
  v1::DatasetInfo info;
  info.set_name(prepared.data.name);
  info.set_format(prepared.data.format);
  SetCounts(prepared.data.users, prepared.data.items, prepared.raw, info);
  return info;
}

std::vector<std::string> InteractionFileNames(const v1::DataSpec& view,
                                              const std::vector<FileEntry>& files) {
  std::vector<std::string> names;
  const auto found = FindInteractionFiles(view.dataset(), files, view.interactions().format());
  if (found.ok()) names = {found->train, found->test};
  for (const std::string& name : FieldTableNames()) {
    names.push_back(FindFile(files, name).value_or(""));
  }
  std::erase(names, "");
  return names;
}

}  // namespace espalier::worker::data
