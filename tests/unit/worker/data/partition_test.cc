#include "worker/data/partition.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/data/load.h"

namespace espalier::worker::data {
namespace {

using ::testing::HasSubstr;
using Partition = v1::Partition;

constexpr uint64_t kSeed = 42;

// `train` + `test` rows of one feature; labels 0..classes−1 in turn, groups of two sizes.
Dataset MakeDataset(int train, int test, int classes, int groups = 0) {
  DatasetBuilder builder;
  EXPECT_TRUE(builder.SetFeatures(1, "made").ok());
  for (int i = 0; i < train + test; ++i) {
    if (i == train) builder.EndTraining();
    const float value = static_cast<float>(i % 251);
    EXPECT_TRUE(builder.AppendRow({&value, 1}).ok());
    builder.AppendLabel(i % classes);
  }
  if (test == 0) builder.EndTraining();
  std::vector<int64_t> ids;
  for (int i = 0; groups > 0 && i < train; ++i) {
    ids.push_back(1000 + (i / 17) % groups);
  }
  builder.SetGroups(ids);
  return builder.Finish("made", "csv", 0);
}

v1::DataSpec Spec(Partition::Kind kind, int shards) {
  v1::DataSpec spec;
  spec.mutable_partition()->set_kind(kind);
  spec.mutable_partition()->set_shards(shards);
  return spec;
}

std::vector<ShardIndices> AllShards(const Dataset& dataset, const v1::DataSpec& spec,
                                    uint64_t seed = kSeed) {
  std::vector<ShardIndices> shards;
  for (int shard = 0; shard < spec.partition().shards(); ++shard) {
    auto indices = MakeShard(dataset, spec, seed, shard);
    EXPECT_TRUE(indices.ok()) << indices.status();
    shards.push_back(indices.ok() ? *indices : ShardIndices());
  }
  return shards;
}

std::vector<int32_t> Union(const std::vector<ShardIndices>& shards,
                           std::vector<int32_t> ShardIndices::*part) {
  std::vector<int32_t> all;
  for (const ShardIndices& shard : shards) {
    EXPECT_TRUE(std::is_sorted((shard.*part).begin(), (shard.*part).end()));
    all.insert(all.end(), (shard.*part).begin(), (shard.*part).end());
  }
  std::sort(all.begin(), all.end());
  return all;
}

std::vector<int32_t> Range(int32_t begin, int32_t end) {
  std::vector<int32_t> rows(static_cast<size_t>(end - begin));
  std::iota(rows.begin(), rows.end(), begin);
  return rows;
}

std::map<int, int> ClassCounts(const Dataset& dataset, const std::vector<int32_t>& rows) {
  std::map<int, int> counts;
  for (const int32_t row : rows) ++counts[dataset.label(row)];
  return counts;
}

// Mean over shards of the total variation distance between a shard's classes and all classes.
double Skew(const Dataset& dataset, const std::vector<ShardIndices>& shards) {
  double skew = 0;
  for (const ShardIndices& shard : shards) {
    auto counts = ClassCounts(dataset, shard.train);
    double distance = 0;
    for (int label = 0; label < dataset.num_classes(); ++label) {
      distance += std::abs(static_cast<double>(counts[label]) / shard.train.size() -
                           1.0 / dataset.num_classes());
    }
    skew += distance / 2 / shards.size();
  }
  return skew;
}

struct Kind {
  std::string name;
  Partition::Kind kind;
};

class EveryKindTest : public ::testing::TestWithParam<Kind> {};

TEST_P(EveryKindTest, EveryIndexIsOnExactlyOneShard) {
  const Dataset dataset = MakeDataset(1003, 207, 10, 30);
  const auto shards = AllShards(dataset, Spec(GetParam().kind, 7));
  EXPECT_EQ(Union(shards, &ShardIndices::train), Range(0, 1003));
  EXPECT_EQ(Union(shards, &ShardIndices::test), Range(1003, 1210));
}

TEST_P(EveryKindTest, LimitsAreDividedLikeTheWhole) {
  const Dataset dataset = MakeDataset(1003, 207, 10, 30);
  v1::DataSpec spec = Spec(GetParam().kind, 5);
  spec.set_train_limit(400);
  spec.set_test_limit(100);
  const auto split = SplitDataset(dataset, spec, kSeed);
  ASSERT_TRUE(split.ok());
  const auto shards = AllShards(dataset, spec);
  EXPECT_EQ(Union(shards, &ShardIndices::train), split->train);
  EXPECT_EQ(Union(shards, &ShardIndices::test), split->test);
}

TEST_P(EveryKindTest, IsAPureFunctionOfTheSeed) {
  const Dataset dataset = MakeDataset(1003, 207, 10, 30);
  const v1::DataSpec spec = Spec(GetParam().kind, 5);
  const auto forward = AllShards(dataset, spec);
  for (int shard = 4; shard >= 0; --shard) {
    const auto again = MakeShard(dataset, spec, kSeed, shard);
    ASSERT_TRUE(again.ok());
    EXPECT_EQ(again->train, forward[shard].train);
    EXPECT_EQ(again->test, forward[shard].test);
  }
  const auto other = AllShards(dataset, spec, kSeed + 1);
  EXPECT_TRUE(std::any_of(forward.begin(), forward.end(), [&](const ShardIndices& shard) {
    return shard.train != other[&shard - forward.data()].train;
  }));
}

TEST_P(EveryKindTest, OneShardHoldsEverything) {
  const Dataset dataset = MakeDataset(100, 20, 2, 3);
  const auto shard = MakeShard(dataset, Spec(GetParam().kind, 1), kSeed, 0);
  ASSERT_TRUE(shard.ok()) << shard.status();
  EXPECT_EQ(shard->train, Range(0, 100));
  EXPECT_EQ(shard->test, Range(100, 120));
}

TEST_P(EveryKindTest, ShardsOutOfRangeAreRefused) {
  const Dataset dataset = MakeDataset(100, 20, 2, 3);
  for (const int shard : {-1, 2, 1000}) {
    const auto indices = MakeShard(dataset, Spec(GetParam().kind, 2), kSeed, shard);
    EXPECT_EQ(base::ReasonOf(indices.status()), "DATA_SPEC_INVALID");
  }
}

TEST_P(EveryKindTest, MoreShardsThanTheDataAllowIsAnErrorThatSaysWhatToChange) {
  const Dataset dataset = MakeDataset(100, 20, 10, 3);
  const auto indices = MakeShard(dataset, Spec(GetParam().kind, 101), kSeed, 0);
  EXPECT_EQ(base::ReasonOf(indices.status()), "PARTITION_IMPOSSIBLE");
  EXPECT_THAT(base::MessageOf(indices.status()), HasSubstr("data.partition.shards"));
}

INSTANTIATE_TEST_SUITE_P(Kinds, EveryKindTest,
                         ::testing::Values(Kind{"Iid", Partition::KIND_IID},
                                           Kind{"Dirichlet", Partition::KIND_DIRICHLET},
                                           Kind{"Classes", Partition::KIND_CLASSES},
                                           Kind{"Groups", Partition::KIND_GROUPS}),
                         [](const auto& info) { return info.param.name; });

TEST(PartitionTest, IidSharesDifferByAtMostOne) {
  const Dataset dataset = MakeDataset(1003, 10, 10);
  for (const ShardIndices& shard : AllShards(dataset, Spec(Partition::KIND_UNSPECIFIED, 7))) {
    EXPECT_NEAR(static_cast<double>(shard.train.size()), 1003.0 / 7, 1);
    EXPECT_NEAR(static_cast<double>(shard.test.size()), 10.0 / 7, 1);
  }
}

TEST(PartitionTest, DirichletShardsHaveTenExamplesOrMore) {
  const Dataset dataset = MakeDataset(1000, 0, 10);
  v1::DataSpec spec = Spec(Partition::KIND_DIRICHLET, 10);
  spec.mutable_partition()->set_alpha(0.3);
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (const ShardIndices& shard : AllShards(dataset, spec, seed)) {
      EXPECT_GE(shard.train.size(), 10u);
    }
  }
}

TEST(PartitionTest, DirichletSkewFallsAsAlphaRises) {
  const Dataset dataset = MakeDataset(10000, 0, 10);
  double previous = 1.0;
  for (const double alpha : {0.05, 0.3, 1.0, 10.0, 1000.0}) {
    v1::DataSpec spec = Spec(Partition::KIND_DIRICHLET, 5);
    spec.mutable_partition()->set_alpha(alpha);
    double skew = 0;
    for (uint64_t seed = 0; seed < 5; ++seed)
      skew += Skew(dataset, AllShards(dataset, spec, seed)) / 5;
    EXPECT_LT(skew, previous) << alpha;
    previous = skew;
  }
  EXPECT_LT(previous, 0.05);
}

// A shard that is full takes no more classes, so no shard exceeds N/K by more than one class.
TEST(PartitionTest, DirichletCapKeepsFullShardsFromGrowing) {
  const Dataset dataset = MakeDataset(10000, 0, 100);
  v1::DataSpec spec = Spec(Partition::KIND_DIRICHLET, 4);
  spec.mutable_partition()->set_alpha(0.1);
  for (const ShardIndices& shard : AllShards(dataset, spec)) {
    EXPECT_LT(shard.train.size(), 10000u / 4 + 10000u / 100);
  }
}

TEST(PartitionTest, DirichletTestRowsFollowTheTrainingProportions) {
  const Dataset dataset = MakeDataset(20000, 10000, 10);
  for (const ShardIndices& shard : AllShards(dataset, Spec(Partition::KIND_DIRICHLET, 8))) {
    auto train = ClassCounts(dataset, shard.train);
    auto test = ClassCounts(dataset, shard.test);
    for (int label = 0; label < 10; ++label) EXPECT_NEAR(test[label], train[label] / 2.0, 1.0);
  }
}

TEST(PartitionTest, DirichletWithTinyAlphaIsOneHotAndFinite) {
  const Dataset dataset = MakeDataset(1000, 100, 10);
  v1::DataSpec spec = Spec(Partition::KIND_DIRICHLET, 2);
  spec.mutable_partition()->set_alpha(1e-6);
  const auto shards = AllShards(dataset, spec);
  EXPECT_EQ(Union(shards, &ShardIndices::train), Range(0, 1000));
  for (const ShardIndices& shard : shards) {
    for (const auto& [label, count] : ClassCounts(dataset, shard.train)) EXPECT_EQ(count, 100);
  }
}

TEST(PartitionTest, DirichletThatCannotSucceedFailsAtOnceOrAfterItsTries) {
  const Dataset dataset = MakeDataset(100, 0, 10);
  const auto few = MakeShard(dataset, Spec(Partition::KIND_DIRICHLET, 11), kSeed, 0);
  EXPECT_THAT(base::MessageOf(few.status()),
              HasSubstr("expected 110 or more for 11 shards, found 100"));
  v1::DataSpec spec = Spec(Partition::KIND_DIRICHLET, 10);
  spec.mutable_partition()->set_alpha(0.01);
  const auto tight = MakeShard(MakeDataset(100, 0, 2), spec, kSeed, 0);
  EXPECT_EQ(base::ReasonOf(tight.status()), "PARTITION_IMPOSSIBLE");
  EXPECT_THAT(base::MessageOf(tight.status()), HasSubstr("raise data.partition.alpha"));
}

TEST(PartitionTest, ClassesShardsHaveTheirNumberOfClassesInTrainAndTest) {
  const Dataset dataset = MakeDataset(2000, 500, 10);
  for (const int per_shard : {1, 2, 3, 10}) {
    v1::DataSpec spec = Spec(Partition::KIND_CLASSES, 20);
    spec.mutable_partition()->set_classes_per_shard(per_shard);
    for (const ShardIndices& shard : AllShards(dataset, spec)) {
      const auto train = ClassCounts(dataset, shard.train);
      EXPECT_EQ(train.size(), static_cast<size_t>(per_shard));
      for (const auto& [label, count] : train) EXPECT_NEAR(count, 200.0 / (2 * per_shard), 1);
      for (const auto& [label, count] : ClassCounts(dataset, shard.test)) {
        EXPECT_TRUE(train.contains(label));
      }
    }
  }
}

TEST(PartitionTest, ClassesThatDoNotDivideAreRefused) {
  const Dataset dataset = MakeDataset(2000, 0, 10);
  for (const auto& [shards, per_shard] : {std::pair{4, 2}, std::pair{4, 11}}) {
    v1::DataSpec spec = Spec(Partition::KIND_CLASSES, shards);
    spec.mutable_partition()->set_classes_per_shard(per_shard);
    const auto indices = MakeShard(dataset, spec, kSeed, 0);
    EXPECT_EQ(base::ReasonOf(indices.status()), "PARTITION_IMPOSSIBLE");
    EXPECT_THAT(base::MessageOf(indices.status()), HasSubstr("classes_per_shard"));
  }
}

TEST(PartitionTest, AGroupIsNeverDividedAndShardsAreBalanced) {
  const Dataset dataset = MakeDataset(2000, 100, 10, 40);
  std::set<int64_t> seen;
  for (const ShardIndices& shard : AllShards(dataset, Spec(Partition::KIND_GROUPS, 5))) {
    EXPECT_NEAR(static_cast<double>(shard.train.size()), 400, 20);
    EXPECT_EQ(shard.test.size(), 20u);
    std::set<int64_t> groups;
    for (const int32_t row : shard.train) groups.insert(dataset.groups()[row]);
    for (const int64_t group : groups) EXPECT_TRUE(seen.insert(group).second) << group;
  }
  EXPECT_EQ(seen.size(), 40u);
}

TEST(PartitionTest, GroupsWithoutAGroupsFileAreRefused) {
  const auto indices = MakeShard(MakeDataset(100, 0, 2), Spec(Partition::KIND_GROUPS, 2), kSeed, 0);
  EXPECT_THAT(base::MessageOf(indices.status()), HasSubstr("groups_file"));
}

TEST(PartitionTest, LocalIsTheWholeForEveryWorker) {
  const Dataset dataset = MakeDataset(100, 20, 2);
  for (const int shard : {0, 7}) {
    const auto indices = MakeShard(dataset, Spec(Partition::KIND_LOCAL, 0), kSeed, shard);
    ASSERT_TRUE(indices.ok()) << indices.status();
    EXPECT_EQ(indices->train, Range(0, 100));
    EXPECT_EQ(indices->test, Range(100, 120));
  }
}

TEST(SplitTest, TheLastRowsAreHeldOutWhenThereAreNoTestFiles) {
  v1::DataSpec spec;
  spec.set_dataset("digits");
  spec.mutable_partition()->set_shards(1);
  spec.set_test_fraction(360.0 / 1797.0);
  const auto digits = LoadDataset(RepositoryData(), spec);
  ASSERT_TRUE(digits.ok()) << digits.status();
  const auto split = SplitDataset(**digits, spec, kSeed);
  ASSERT_TRUE(split.ok());
  EXPECT_EQ(split->train, Range(0, 1437));
  EXPECT_EQ(split->test, Range(1437, 1797));
}

TEST(SplitTest, TestFilesWinOverTheFraction) {
  v1::DataSpec spec = Spec(Partition::KIND_IID, 1);
  spec.set_test_fraction(0.5);
  const auto split = SplitDataset(MakeDataset(100, 20, 2), spec, kSeed);
  ASSERT_TRUE(split.ok());
  EXPECT_EQ(split->train.size(), 100u);
  EXPECT_EQ(split->test.size(), 20u);
}

TEST(SplitTest, LimitsDrawThatManyDistinctRowsInOrder) {
  const Dataset dataset = MakeDataset(1000, 200, 2);
  v1::DataSpec spec = Spec(Partition::KIND_IID, 1);
  spec.set_train_limit(100);
  spec.set_test_limit(500);
  const auto split = SplitDataset(dataset, spec, kSeed);
  const auto other = SplitDataset(dataset, spec, kSeed + 1);
  ASSERT_TRUE(split.ok() && other.ok());
  EXPECT_EQ(split->train.size(), 100u);
  EXPECT_EQ(split->test.size(), 200u);
  EXPECT_TRUE(std::is_sorted(split->train.begin(), split->train.end()));
  EXPECT_EQ(std::set<int32_t>(split->train.begin(), split->train.end()).size(), 100u);
  EXPECT_GT(split->train.back(), 800);
  EXPECT_NE(split->train, other->train);
}

TEST(SpecTest, FieldsOutOfRangeAreNamed) {
  using Change = void (*)(v1::DataSpec&);
  const std::vector<std::pair<std::string, Change>> changes = {
      {"partition.shards", [](v1::DataSpec& s) { s.mutable_partition()->set_shards(0); }},
      {"partition.shards", [](v1::DataSpec& s) { s.mutable_partition()->set_shards(100001); }},
      {"partition.shards",
       [](v1::DataSpec& s) { s.mutable_partition()->set_kind(Partition::KIND_LOCAL); }},
      {"partition.kind",
       [](v1::DataSpec& s) { s.mutable_partition()->set_kind(static_cast<Partition::Kind>(99)); }},
      {"partition.alpha", [](v1::DataSpec& s) { s.mutable_partition()->set_alpha(-1); }},
      {"partition.alpha", [](v1::DataSpec& s) { s.mutable_partition()->set_alpha(NAN); }},
      {"partition.classes_per_shard",
       [](v1::DataSpec& s) { s.mutable_partition()->set_classes_per_shard(-1); }},
      {"scale", [](v1::DataSpec& s) { s.set_scale(-255); }},
      {"scale", [](v1::DataSpec& s) { s.set_scale(INFINITY); }},
      {"mean", [](v1::DataSpec& s) { s.set_mean(NAN); }},
      {"std", [](v1::DataSpec& s) { s.set_std(-1); }},
      {"train_limit", [](v1::DataSpec& s) { s.set_train_limit(-1); }},
      {"test_limit", [](v1::DataSpec& s) { s.set_test_limit(-1); }},
      {"test_fraction", [](v1::DataSpec& s) { s.set_test_fraction(1.0); }},
  };
  EXPECT_TRUE(CheckDataSpec(Spec(Partition::KIND_IID, 2)).ok());
  for (const auto& [field, change] : changes) {
    v1::DataSpec spec = Spec(Partition::KIND_IID, 2);
    change(spec);
    const absl::Status status = CheckDataSpec(spec);
    EXPECT_EQ(base::ReasonOf(status), "DATA_SPEC_INVALID") << field;
    EXPECT_THAT(base::MessageOf(status), HasSubstr("data." + field + ": expected"));
  }
}

}  // namespace
}  // namespace espalier::worker::data
