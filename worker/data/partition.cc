#include "worker/data/partition.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <queue>
#include <span>
#include <unordered_map>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "worker/data/errors.h"

namespace espalier::worker::data {
namespace {

using Indices = std::vector<int32_t>;

constexpr int kMaxShards = 100'000;
constexpr double kDefaultAlpha = 0.5;
constexpr int kDefaultClassesPerShard = 2;
constexpr int64_t kMaxDirichletTries = 1000;
constexpr int64_t kMaxDirichletDraws = 30'000'000;

// --- Parameters

double Alpha(const v1::Partition& partition) {
  return partition.alpha() == 0.0 ? kDefaultAlpha : partition.alpha();
}

int ClassesPerShard(const v1::Partition& partition) {
  return partition.classes_per_shard() == 0 ? kDefaultClassesPerShard
                                            : partition.classes_per_shard();
}

absl::Status BadField(std::string_view field, std::string_view expected, double found) {
  return base::InvalidArgument(
      kDataSpecInvalid, fmt::format("data.{}: expected {}, found {}", field, expected, found));
}

absl::Status Impossible(const std::string& message) {
  return base::InvalidArgument(kPartitionImpossible, message);
}

absl::Status CheckPartition(const v1::Partition& partition) {
  if (!v1::Partition::Kind_IsValid(partition.kind())) {
    return BadField("partition.kind", "a known kind", partition.kind());
  }
  if (partition.kind() == v1::Partition::KIND_LOCAL) {
    if (partition.shards() == 0) return absl::OkStatus();
    return BadField("partition.shards", "no value with KIND_LOCAL: every worker is one",
                    partition.shards());
  }
  if (partition.shards() < 1 || partition.shards() > kMaxShards) {
    return BadField("partition.shards", "1 to 100000", partition.shards());
  }
  // Beyond these bounds the draws are one-hot, or equal, to the last bit anyway.
  if (!(Alpha(partition) >= 1e-6 && Alpha(partition) <= 1e6)) {
    return BadField("partition.alpha", "1e-6 to 1e6 (default 0.5)", partition.alpha());
  }
  if (partition.classes_per_shard() < 0) {
    return BadField("partition.classes_per_shard", "1 or more (default 2)",
                    partition.classes_per_shard());
  }
  return absl::OkStatus();
}

// --- Common steps

Indices Range(int64_t begin, int64_t end) {
  Indices rows(static_cast<size_t>(end - begin));
  std::iota(rows.begin(), rows.end(), static_cast<int32_t>(begin));
  return rows;
}

// `limit` of the rows without replacement, in their order (selection sampling, Knuth vol. 2, 3.4.2
// S).
Indices Limit(Indices rows, int64_t limit, uint64_t key) {
  const auto total = static_cast<int64_t>(rows.size());
  if (limit == 0 || limit >= total) return rows;
  base::Rng rng(key);
  Indices chosen;
  chosen.reserve(static_cast<size_t>(limit));
  for (int64_t i = 0; static_cast<int64_t>(chosen.size()) < limit; ++i) {
    const auto left = static_cast<uint64_t>(limit) - chosen.size();
    if (rng.Below(static_cast<uint64_t>(total - i)) < left) {
      chosen.push_back(rows[static_cast<size_t>(i)]);
    }
  }
  return chosen;
}

// Part `part` of `parts` nearly equal parts of [0, count): sizes differ by at most one.
std::pair<int64_t, int64_t> EqualPart(int64_t count, int64_t part, int64_t parts) {
  return {count * part / parts, count * (part + 1) / parts};
}

void Append(std::span<const int32_t> rows, int64_t begin, int64_t end, Indices& out) {
  out.insert(out.end(), rows.begin() + begin, rows.begin() + end);
}

// base::Shuffle() of rows, at most this many between two looks at whether to go on.
constexpr size_t kShuffledAtOnce = size_t{1} << 22;

absl::Status ShuffleRows(std::span<int32_t> rows, const LoadOptions& options, base::Rng& rng) {
  size_t next = 0;
  for (size_t i = rows.size(); i > 1; --i) {
    std::swap(rows[i - 1], rows[rng.Below(i)]);
    if (++next % kShuffledAtOnce == 0) ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
  }
  return options.CheckGoesOn();
}

absl::StatusOr<Indices> IidShare(Indices rows, int64_t shard, int64_t shards, uint64_t key,
                                 const LoadOptions& options) {
  base::Rng rng(key);
  ESPALIER_RETURN_IF_ERROR(ShuffleRows(rows, options, rng));
  const auto [begin, end] = EqualPart(static_cast<int64_t>(rows.size()), shard, shards);
  Indices share;
  Append(rows, begin, end, share);
  return share;
}

// Rows by class, in one array.
class ByClass {
 public:
  ByClass(const Dataset& dataset, const Indices& rows)
      : offsets_(static_cast<size_t>(dataset.num_classes()) + 1), rows_(rows.size()) {
    for (const int32_t row : rows) ++offsets_[static_cast<size_t>(dataset.label(row)) + 1];
    std::partial_sum(offsets_.begin(), offsets_.end(), offsets_.begin());
    std::vector<int64_t> next = offsets_;
    for (const int32_t row : rows) {
      rows_[static_cast<size_t>(next[static_cast<size_t>(dataset.label(row))]++)] = row;
    }
  }

  int64_t Count(size_t label) const { return offsets_[label + 1] - offsets_[label]; }

  // The rows of a class in the order of stream (purpose, label).
  absl::StatusOr<std::span<const int32_t>> Shuffled(size_t label, uint64_t seed,
                                                    std::string_view purpose,
                                                    const LoadOptions& options) {
    const std::span<int32_t> part(rows_.data() + offsets_[label],
                                  static_cast<size_t>(Count(label)));
    base::Rng rng(base::StreamKey(seed, purpose, {label}));
    ESPALIER_RETURN_IF_ERROR(ShuffleRows(part, options, rng));
    return part;
  }

 private:
  std::vector<int64_t> offsets_;
  Indices rows_;
};

// --- Dirichlet

// One try of the whole procedure, kept for one shard only: memory is O(classes + shards).
struct DirichletDraw {
  std::vector<double> begin;  // cumulative proportion before and after the shard, by class
  std::vector<double> end;
  int64_t smallest = 0;  // size of the smallest shard
};

// Where cumulative proportion `share` cuts `count` rows; the last share takes what is left.
int64_t CutAt(double share, int64_t count) {
  if (share >= 1.0) return count;
  return std::min(count, static_cast<int64_t>(share * static_cast<double>(count)));
}

// Logarithms of Gamma(alpha, 1) draws. Small alphas underflow as plain numbers; as logarithms their
// ratios stay exact (Gamma(a) = Gamma(a + 1) U^(1/a)).
void DrawLogGammas(double alpha, base::Rng& rng, std::vector<double>& logs) {
  for (double& value : logs) {
    value = std::log(rng.Gamma(alpha + 1.0)) + std::log(1.0 - rng.Uniform()) / alpha;
  }
}

// Proportions of one class: zero where a shard is full, the others renormalised, then cumulated.
// When all are full, which only a class without training rows can meet, none is left out.
void Proportions(const std::vector<double>& logs, const std::vector<int64_t>& sizes, double cap,
                 std::vector<double>& cumulative) {
  double largest = -std::numeric_limits<double>::infinity();
  const auto open = [&](size_t k) { return static_cast<double>(sizes[k]) < cap; };
  bool any_open = false;
  for (size_t k = 0; k < logs.size(); ++k) any_open = any_open || open(k);
  for (size_t k = 0; k < logs.size(); ++k) {
    if (open(k) || !any_open) largest = std::max(largest, logs[k]);
  }
  double sum = 0.0;
  for (size_t k = 0; k < logs.size(); ++k) {
    if (open(k) || !any_open) sum += std::exp(logs[k] - largest);
    cumulative[k] = sum;
  }
  for (double& share : cumulative) share /= sum;
}

DirichletDraw DrawDirichlet(const ByClass& rows, int64_t total, size_t classes, size_t shards,
                            double alpha, size_t shard, uint64_t key) {
  base::Rng rng(key);
  DirichletDraw draw;
  std::vector<double> logs(shards);
  std::vector<double> cumulative(shards);
  std::vector<int64_t> sizes(shards);
  const double cap = static_cast<double>(total) / static_cast<double>(shards);
  for (size_t label = 0; label < classes; ++label) {
    DrawLogGammas(alpha, rng, logs);
    Proportions(logs, sizes, cap, cumulative);
    int64_t before = 0;
    for (size_t k = 0; k < shards; ++k) {
      const int64_t after = CutAt(cumulative[k], rows.Count(label));
      sizes[k] += after - before;
      before = after;
    }
    draw.begin.push_back(shard == 0 ? 0.0 : cumulative[shard - 1]);
    draw.end.push_back(cumulative[shard]);
  }
  draw.smallest = *std::min_element(sizes.begin(), sizes.end());
  return draw;
}

absl::StatusOr<DirichletDraw> AcceptedDraw(const ByClass& rows, int64_t total, size_t classes,
                                           size_t shards, double alpha, size_t shard,
                                           uint64_t seed) {
  if (total < kMinDirichletShard * static_cast<int64_t>(shards)) {
    return Impossible(fmt::format(
        "a Dirichlet split gives every shard at least {} training examples: expected {} or more "
        "for {} "
        "shards, found {}; lower data.partition.shards or raise data.train_limit",
        kMinDirichletShard, kMinDirichletShard * static_cast<int64_t>(shards), shards, total));
  }
  const int64_t affordable = kMaxDirichletDraws / static_cast<int64_t>(classes * shards);
  const int64_t tries = std::clamp<int64_t>(affordable, 1, kMaxDirichletTries);
  for (int64_t i = 0; i < tries; ++i) {
    const uint64_t key = base::StreamKey(seed, "partition/dirichlet", {static_cast<uint64_t>(i)});
    DirichletDraw draw = DrawDirichlet(rows, total, classes, shards, alpha, shard, key);
    if (draw.smallest >= kMinDirichletShard) return draw;
  }
  return Impossible(
      fmt::format("no Dirichlet split with at least {} training examples on each of {} shards was "
                  "found in {} tries "
                  "over {} examples (alpha {}); raise data.partition.alpha, lower "
                  "data.partition.shards or raise "
                  "data.train_limit",
                  kMinDirichletShard, shards, tries, total, alpha));
}

absl::StatusOr<ShardIndices> DirichletShard(const Dataset& dataset, const v1::Partition& partition,
                                            const ShardIndices& split, uint64_t seed, size_t shard,
                                            const LoadOptions& options) {
  ByClass train(dataset, split.train);
  ByClass test(dataset, split.test);
  const auto classes = static_cast<size_t>(dataset.num_classes());
  ESPALIER_ASSIGN_OR_RETURN(
      const DirichletDraw draw,
      AcceptedDraw(train, static_cast<int64_t>(split.train.size()), classes,
                   static_cast<size_t>(partition.shards()), Alpha(partition), shard, seed));
  ShardIndices part;
  const auto take = [&](ByClass& rows, size_t label, std::string_view purpose,
                        Indices& out) -> absl::Status {
    const int64_t count = rows.Count(label);
    ESPALIER_ASSIGN_OR_RETURN(const auto shuffled, rows.Shuffled(label, seed, purpose, options));
    Append(shuffled, CutAt(draw.begin[label], count), CutAt(draw.end[label], count), out);
    return absl::OkStatus();
  };
  for (size_t label = 0; label < classes; ++label) {
    ESPALIER_RETURN_IF_ERROR(take(train, label, "partition/train", part.train));
    ESPALIER_RETURN_IF_ERROR(take(test, label, "partition/test", part.test));
  }
  return part;
}

// --- Classes (pathological)

// The slots of the classes: every shard has `per_shard` distinct classes, and every class is on
// nearly the same number of shards.
struct ClassSlots {
  std::vector<size_t> classes;     // of the shard asked for
  std::vector<int64_t> positions;  // which of the class's slots it has, same order
  std::vector<int64_t> counts;     // slots of each class
};

// Deals greedily: each shard takes the classes with the most slots left, ties in random order. With
// all quotas within one of each other this never gets stuck.
ClassSlots DealClasses(const std::vector<size_t>& present, size_t classes, int shards,
                       size_t per_shard, int shard, uint64_t seed) {
  base::Rng rng(base::StreamKey(seed, "partition/classes"));
  ClassSlots slots;
  slots.counts.resize(classes);
  std::vector<size_t> order = present;
  base::Shuffle(std::span<size_t>(order), rng);
  const size_t total = static_cast<size_t>(shards) * per_shard;
  std::vector<int64_t> left(classes);
  for (size_t i = 0; i < order.size(); ++i) {
    left[order[i]] =
        static_cast<int64_t>(total / order.size() + (i < total % order.size() ? 1 : 0));
  }
  slots.counts = left;
  for (int k = 0; k <= shard; ++k) {
    base::Shuffle(std::span<size_t>(order), rng);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return left[a] > left[b]; });
    for (size_t i = 0; i < per_shard; ++i) {
      --left[order[i]];
      if (k != shard) continue;
      slots.classes.push_back(order[i]);
      slots.positions.push_back(slots.counts[order[i]] - left[order[i]] - 1);
    }
  }
  return slots;
}

absl::StatusOr<ShardIndices> ClassesShard(const Dataset& dataset, const v1::Partition& partition,
                                          const ShardIndices& split, uint64_t seed, int shard,
                                          const LoadOptions& options) {
  ByClass train(dataset, split.train);
  ByClass test(dataset, split.test);
  std::vector<size_t> present;
  for (size_t label = 0; label < static_cast<size_t>(dataset.num_classes()); ++label) {
    if (train.Count(label) > 0) present.push_back(label);
  }
  const auto per_shard = static_cast<size_t>(ClassesPerShard(partition));
  const size_t total = static_cast<size_t>(partition.shards()) * per_shard;
  if (per_shard > present.size() || total < present.size()) {
    return Impossible(
        fmt::format("a split by classes needs classes_per_shard <= classes <= shards x "
                    "classes_per_shard: found {} "
                    "per shard, {} classes in the training examples and {} shards; change "
                    "data.partition.classes_per_shard or data.partition.shards",
                    per_shard, present.size(), partition.shards()));
  }
  const ClassSlots slots = DealClasses(present, static_cast<size_t>(dataset.num_classes()),
                                       partition.shards(), per_shard, shard, seed);
  for (const size_t label : present) {
    if (train.Count(label) >= slots.counts[label]) continue;
    return Impossible(fmt::format(
        "class {} has {} training examples for {} shards; lower data.partition.shards or "
        "classes_per_shard, or raise data.train_limit",
        label, train.Count(label), slots.counts[label]));
  }
  ShardIndices part;
  const auto take = [&](ByClass& rows, size_t i, std::string_view purpose,
                        Indices& out) -> absl::Status {
    const size_t label = slots.classes[i];
    const auto [begin, end] = EqualPart(rows.Count(label), slots.positions[i], slots.counts[label]);
    ESPALIER_ASSIGN_OR_RETURN(const auto shuffled, rows.Shuffled(label, seed, purpose, options));
    Append(shuffled, begin, end, out);
    return absl::OkStatus();
  };
  for (size_t i = 0; i < slots.classes.size(); ++i) {
    ESPALIER_RETURN_IF_ERROR(take(train, i, "partition/train", part.train));
    ESPALIER_RETURN_IF_ERROR(take(test, i, "partition/test", part.test));
  }
  return part;
}

// --- Groups

// Shard of each group: the largest group first, always to the smallest shard; groups of equal size
// in random order.
std::vector<int64_t> AssignGroups(const std::vector<int64_t>& sizes, int64_t shards,
                                  uint64_t seed) {
  std::vector<size_t> order(sizes.size());
  std::iota(order.begin(), order.end(), size_t{0});
  base::Rng rng(base::StreamKey(seed, "partition/groups"));
  base::Shuffle(std::span<size_t>(order), rng);
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return sizes[a] > sizes[b]; });
  using Load = std::pair<int64_t, int64_t>;  // rows, shard
  std::priority_queue<Load, std::vector<Load>, std::greater<>> lightest;
  for (int64_t shard = 0; shard < shards; ++shard) lightest.emplace(0, shard);
  std::vector<int64_t> assigned(sizes.size());
  for (const size_t group : order) {
    const auto [rows, shard] = lightest.top();
    lightest.pop();
    assigned[group] = shard;
    lightest.emplace(rows + sizes[group], shard);
  }
  return assigned;
}

absl::StatusOr<ShardIndices> GroupsShard(const Dataset& dataset, const v1::Partition& partition,
                                         ShardIndices split, uint64_t seed, int shard,
                                         const LoadOptions& options) {
  if (dataset.groups().empty()) {
    return base::InvalidArgument(
        kDataSpecInvalid,
        "data.partition.groups_file: expected a file with one group id for each "
        "training example, found none loaded; load the data set with this spec");
  }
  // Groups are numbered as they are met, which only depends on the files.
  std::unordered_map<int64_t, size_t> numbers;
  std::vector<int64_t> sizes;
  for (const int32_t row : split.train) {
    const int64_t group = dataset.groups()[static_cast<size_t>(row)];
    const auto [known, is_new] = numbers.try_emplace(group, sizes.size());
    if (is_new) sizes.push_back(0);
    ++sizes[known->second];
  }
  const int64_t shards = partition.shards();
  if (static_cast<int64_t>(sizes.size()) < shards) {
    return Impossible(
        fmt::format("a split by groups needs at least as many groups as shards: found {} groups in "
                    "the training "
                    "examples and {} shards; lower data.partition.shards",
                    sizes.size(), shards));
  }
  const std::vector<int64_t> assigned = AssignGroups(sizes, shards, seed);
  ShardIndices part;
  for (const int32_t row : split.train) {
    const int64_t group = dataset.groups()[static_cast<size_t>(row)];
    if (assigned[numbers.at(group)] == shard) part.train.push_back(row);
  }
  ESPALIER_ASSIGN_OR_RETURN(part.test,
                            IidShare(std::move(split.test), shard, shards,
                                     base::StreamKey(seed, "partition/test", {}), options));
  return part;
}

// --- iid

absl::StatusOr<ShardIndices> IidShard(const v1::Partition& partition, ShardIndices split,
                                      uint64_t seed, int shard, const LoadOptions& options) {
  const int64_t shards = partition.shards();
  if (static_cast<int64_t>(split.train.size()) < shards) {
    return Impossible(
        fmt::format("expected at least one training example for each of {} shards, found {}; lower "
                    "data.partition.shards or raise data.train_limit",
                    shards, split.train.size()));
  }
  ShardIndices part;
  ESPALIER_ASSIGN_OR_RETURN(part.train,
                            IidShare(std::move(split.train), shard, shards,
                                     base::StreamKey(seed, "partition/train", {}), options));
  ESPALIER_ASSIGN_OR_RETURN(part.test,
                            IidShare(std::move(split.test), shard, shards,
                                     base::StreamKey(seed, "partition/test", {}), options));
  return part;
}

absl::StatusOr<ShardIndices> DivideSplit(const Dataset& dataset, const v1::Partition& partition,
                                         ShardIndices split, uint64_t seed, int shard,
                                         const LoadOptions& options) {
  switch (partition.kind()) {
    case v1::Partition::KIND_DIRICHLET:
      return DirichletShard(dataset, partition, split, seed, static_cast<size_t>(shard), options);
    case v1::Partition::KIND_CLASSES:
      return ClassesShard(dataset, partition, split, seed, shard, options);
    case v1::Partition::KIND_GROUPS:
      return GroupsShard(dataset, partition, std::move(split), seed, shard, options);
    default:
      return IidShard(partition, std::move(split), seed, shard, options);
  }
}

}  // namespace

absl::Status CheckDataSpec(const v1::DataSpec& spec) {
  ESPALIER_RETURN_IF_ERROR(CheckPartition(spec.partition()));
  if (!(spec.scale() >= 0.0 && std::isfinite(spec.scale()))) {
    return BadField("scale", "a positive number (default 1)", spec.scale());
  }
  if (!std::isfinite(spec.mean())) return BadField("mean", "a finite number", spec.mean());
  if (!(spec.std() >= 0.0 && std::isfinite(spec.std()))) {
    return BadField("std", "a positive number (default 1)", spec.std());
  }
  if (spec.train_limit() < 0) {
    return BadField("train_limit", "0 (all) or more", static_cast<double>(spec.train_limit()));
  }
  if (spec.test_limit() < 0) {
    return BadField("test_limit", "0 (all) or more", static_cast<double>(spec.test_limit()));
  }
  if (!(spec.test_fraction() >= 0.0 && spec.test_fraction() < 1.0)) {
    return BadField("test_fraction", "0 <= x < 1", spec.test_fraction());
  }
  return absl::OkStatus();
}

absl::StatusOr<ShardIndices> SplitDataset(const Dataset& dataset, const v1::DataSpec& spec,
                                          uint64_t seed) {
  ESPALIER_RETURN_IF_ERROR(CheckDataSpec(spec));
  int64_t train_rows = dataset.train_rows();
  if (train_rows == dataset.size()) {
    train_rows -= std::llround(spec.test_fraction() * static_cast<double>(dataset.size()));
  }
  if (train_rows == 0) {
    return Impossible(
        fmt::format("data.test_fraction {} leaves none of {} examples for training; lower it",
                    spec.test_fraction(), dataset.size()));
  }
  return ShardIndices{
      Limit(Range(0, train_rows), spec.train_limit(), base::StreamKey(seed, "train_limit", {})),
      Limit(Range(train_rows, dataset.size()), spec.test_limit(),
            base::StreamKey(seed, "test_limit", {}))};
}

absl::StatusOr<ShardIndices> MakeShard(const Dataset& dataset, const v1::DataSpec& spec,
                                       uint64_t seed, int shard, const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(ShardIndices split, SplitDataset(dataset, spec, seed));
  const v1::Partition& partition = spec.partition();
  if (partition.kind() == v1::Partition::KIND_LOCAL) return split;
  if (shard < 0 || shard >= partition.shards()) {
    return base::InvalidArgument(
        kDataSpecInvalid,
        fmt::format("shard: expected 0 to {}, found {}; data.partition.shards must "
                    "cover every participant",
                    partition.shards() - 1, shard));
  }
  ESPALIER_ASSIGN_OR_RETURN(
      ShardIndices part, DivideSplit(dataset, partition, std::move(split), seed, shard, options));
  for (Indices* rows : {&part.train, &part.test}) {
    ESPALIER_RETURN_IF_ERROR(SortUnlessCancelled(
        options, [&](const auto& less) { std::sort(rows->begin(), rows->end(), less); },
        std::less<int32_t>()));
  }
  return part;
}

}  // namespace espalier::worker::data
