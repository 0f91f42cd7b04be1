// Conformance of every reducer kind, and what the mean promises beyond it.
#include "server/reduce/reducer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <numeric>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/wire/model_spec/result_sections.h"
#include "espalier/v1/worker.pb.h"
#include "server/reduce/fixed_point.h"
#include "tests/support/result_layouts.h"

namespace espalier::server::reduce {
namespace {

using ::testing::TestWithParam;

// One sparse tensor of 4 × 6 with weights at `positions` and a dense bias of 4.
std::shared_ptr<const tensor::ModelTopology> OwnStructure(const std::vector<int64_t>& positions) {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"layers.0.weight", {4, 6}, 4, 6, true});
  layout->push_back({"layers.0.bias", {4}, 4, 1, false});
  auto topology = tensor::Topology::FromPositions(4, 6, positions);
  auto model = tensor::ModelTopology::Create(
      layout, {std::make_shared<const tensor::Topology>(std::move(topology).value()), nullptr});
  return std::make_shared<const tensor::ModelTopology>(std::move(model).value());
}

// The same with 7 weights.
std::shared_ptr<const tensor::ModelTopology> SmallTopology() {
  return OwnStructure({0, 3, 7, 8, 14, 20, 23});
}

// A source that hands `values` out in pieces of 3.
ValueSource InPieces(std::vector<float> values) {
  return [values = std::move(values)](
             const std::function<absl::Status(std::span<const float>)>& sink) -> absl::Status {
    for (size_t i = 0; i < values.size(); i += 3) {
      ESPALIER_RETURN_IF_ERROR(
          sink(std::span(values).subspan(i, std::min<size_t>(3, values.size() - i))));
    }
    return absl::OkStatus();
  };
}

void SetValues(Partial& partial, std::vector<float> values) {
  partial.values_count = static_cast<int64_t>(values.size());
  partial.values = InPieces(std::move(values));
}

// A valid partial of participant `k` with values from 1e-17 to 1e5 in both signs.
Partial NastyPartial(ReducerKind kind, uint64_t k) {
  base::Rng rng(base::StreamKey(7, "reducer-test", {k}));
  Partial partial;
  partial.participant = "shard-" + std::to_string(k * 7 % 5);
  partial.examples = static_cast<int64_t>(1 + rng.Below(100000));
  partial.loss_sum = std::exp(20 * rng.Normal());
  partial.correct = partial.examples / 3;
  partial.peak_memory_bytes = static_cast<int64_t>(rng.Below(1000));
  if (kind == ReducerKind::kMetrics) return partial;
  std::vector<float> values;
  for (int i = 0; i < 11; ++i) {
    const double magnitude = std::pow(10.0, -17 + 22 * rng.Uniform());
    values.push_back(static_cast<float>(rng.Below(2) == 0 ? magnitude : -magnitude));
  }
  SetValues(partial, values);
  if (kind == ReducerKind::kOwnersMean) {
    // Every other participant has a structure of its own, with as many weights.
    if (k % 2 == 1)
      partial.topology = OwnStructure({0, 3, 6 + static_cast<int64_t>(k), 14, 15, 20, 21});
    return partial;
  }
  partial.scores.resize(2);
  for (const int64_t position : {1, 2, 9, 15, 22}) {
    if (rng.Below(3) == 0) continue;
    partial.scores[0].positions.push_back(position);
    partial.scores[0].values.push_back(static_cast<float>(rng.Normal() * 1e3));
  }
  return partial;
}

// A reducer under test, of the 11 values of SmallTopology().
struct Case {
  std::string name;
  ReducerKind kind = ReducerKind::kMean;
  Aggregation aggregation = {};
};

std::unique_ptr<Reducer> Make(const Case& of) {
  return MakeReducer(of.kind, SmallTopology(), test::ValuesLayout(11), of.aggregation,
                     std::vector<float>(11, 0.0F));
}

Reduced Fold(const Case& of, const std::vector<Partial>& partials) {
  auto reducer = Make(of);
  for (const Partial& partial : partials) {
    const absl::Status status = reducer->Merge(partial);
    EXPECT_TRUE(status.ok()) << status;
  }
  auto reduced = reducer->Finish();
  EXPECT_TRUE(reduced.ok()) << reduced.status();
  return reduced.ok() ? *reduced : Reduced{};
}

void ExpectSameBits(const Reduced& a, const Reduced& b) {
  EXPECT_EQ(a.participants, b.participants);
  EXPECT_EQ(a.examples, b.examples);
  EXPECT_EQ(std::bit_cast<uint64_t>(a.loss_sum), std::bit_cast<uint64_t>(b.loss_sum));
  EXPECT_EQ(a.correct, b.correct);
  EXPECT_EQ(a.peak_memory_bytes, b.peak_memory_bytes);
  const auto x = a.Section(v1::SECTION_KIND_VALUES);
  const auto y = b.Section(v1::SECTION_KIND_VALUES);
  ASSERT_EQ(x.size(), y.size());
  for (size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(std::bit_cast<uint32_t>(x[i]), std::bit_cast<uint32_t>(y[i])) << i;
  }
  ASSERT_EQ(a.scores.size(), b.scores.size());
  for (size_t i = 0; i < a.scores.size(); ++i) {
    EXPECT_EQ(a.scores[i].positions, b.scores[i].positions);
    EXPECT_EQ(a.scores[i].values, b.scores[i].values);
  }
}

class ReducerConformanceTest : public TestWithParam<Case> {
 protected:
  Partial Valid(uint64_t k = 0) const { return NastyPartial(GetParam().kind, k); }

  // Merging `bad` between two valid partials fails with `reason` and changes nothing.
  void ExpectRefusedUnchanged(const Partial& bad, const std::string& reason) {
    auto reducer = Make(GetParam());
    ASSERT_TRUE(reducer->Merge(Valid(0)).ok());
    const absl::Status status = reducer->Merge(bad);
    EXPECT_EQ(base::ReasonOf(status), reason) << status;
    ASSERT_TRUE(reducer->Merge(Valid(1)).ok());
    auto reduced = reducer->Finish();
    ASSERT_TRUE(reduced.ok()) << reduced.status();
    ExpectSameBits(*reduced, Fold(GetParam(), {Valid(0), Valid(1)}));
  }
};

TEST_P(ReducerConformanceTest, EveryOrderOfFivePartialsGivesTheSameBits) {
  std::vector<Partial> partials;
  for (uint64_t k = 0; k < 5; ++k) partials.push_back(Valid(k));
  const Reduced expected = Fold(GetParam(), partials);
  std::vector<size_t> order(partials.size());
  std::iota(order.begin(), order.end(), 0);
  int permutations = 0;
  do {
    std::vector<Partial> permuted;
    for (const size_t k : order) permuted.push_back(partials[k]);
    ExpectSameBits(Fold(GetParam(), permuted), expected);
    ++permutations;
  } while (std::next_permutation(order.begin(), order.end()));
  EXPECT_EQ(permutations, 120);
}

TEST_P(ReducerConformanceTest, OneParticipantIsReturnedAsItIs) {
  const Partial only = Valid();
  const Reduced reduced = Fold(GetParam(), {only});
  EXPECT_EQ(reduced.participants, 1);
  EXPECT_EQ(reduced.examples, only.examples);
  EXPECT_EQ(reduced.loss_sum, only.loss_sum);
  EXPECT_EQ(reduced.correct, only.correct);
  EXPECT_EQ(reduced.peak_memory_bytes, only.peak_memory_bytes);
  if (!only.values) return;
  std::vector<float> values;
  ASSERT_TRUE(only.values([&](std::span<const float> piece) {
                    values.insert(values.end(), piece.begin(), piece.end());
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_EQ(test::ValuesOf(reduced), values);
  ASSERT_EQ(reduced.scores.size(), only.scores.size());
  for (size_t i = 0; i < only.scores.size(); ++i) {
    EXPECT_EQ(reduced.scores[i].values, only.scores[i].values);
  }
}

TEST_P(ReducerConformanceTest, DuplicateParticipantIsRefused) {
  Partial again = Valid(3);
  again.participant = Valid(0).participant;
  ExpectRefusedUnchanged(again, "DUPLICATE_PARTICIPANT");
}

TEST_P(ReducerConformanceTest, NonFiniteLossIsRefused) {
  Partial bad = Valid(2);
  bad.loss_sum = std::numeric_limits<double>::quiet_NaN();
  ExpectRefusedUnchanged(bad, "NON_FINITE");
}

TEST_P(ReducerConformanceTest, MoreCorrectThanExamplesIsRefused) {
  Partial bad = Valid(2);
  bad.correct = bad.examples + 1;
  ExpectRefusedUnchanged(bad, "VALUE_IMPOSSIBLE");
}

TEST_P(ReducerConformanceTest, NegativeExamplesAreRefused) {
  Partial bad = Valid(2);
  bad.examples = -1;
  ExpectRefusedUnchanged(bad, "NO_EXAMPLES");
}

TEST_P(ReducerConformanceTest, WrongCountIsRefused) {
  Partial bad = Valid(2);
  SetValues(bad, std::vector<float>(10, 1.0f));
  ExpectRefusedUnchanged(bad, "SHAPE_MISMATCH");
  SetValues(bad, std::vector<float>(12, 1.0f));
  ExpectRefusedUnchanged(bad, "SHAPE_MISMATCH");
}

TEST_P(ReducerConformanceTest, NothingMergedIsAnError) {
  auto reducer = Make(GetParam());
  EXPECT_EQ(base::ReasonOf(reducer->Finish().status()), "NO_PARTIALS");
}

TEST_P(ReducerConformanceTest, SpentReducerRefusesFurtherUse) {
  auto reducer = Make(GetParam());
  ASSERT_TRUE(reducer->Merge(Valid()).ok());
  ASSERT_TRUE(reducer->Finish().ok());
  EXPECT_EQ(base::ReasonOf(reducer->Merge(Valid(1))), "REDUCER_SPENT");
  EXPECT_EQ(base::ReasonOf(reducer->Finish().status()), "REDUCER_SPENT");
}

// Merges `partials` by reducers that are saved and absorbed: a random tree, in a random order, with
// some reducers that have nothing.
Reduced FoldByParts(const Case& of, const std::vector<Partial>& partials, uint64_t seed) {
  base::Rng rng(base::StreamKey(seed, "partition"));
  std::vector<std::unique_ptr<Reducer>> reducers;
  for (uint64_t i = 0; i < 1 + rng.Below(4); ++i) reducers.push_back(Make(of));
  for (const Partial& partial : partials) {
    const absl::Status status = reducers[rng.Below(reducers.size())]->Merge(partial);
    EXPECT_TRUE(status.ok()) << status;
  }
  while (reducers.size() > 1) {
    base::Shuffle(std::span(reducers), rng);
    const auto saved = reducers.back()->Save();
    EXPECT_TRUE(saved.ok()) << saved.status();
    reducers.pop_back();
    const absl::Status status = reducers.back()->Absorb(*saved);
    EXPECT_TRUE(status.ok()) << status;
  }
  auto reduced = reducers.front()->Finish();
  EXPECT_TRUE(reduced.ok()) << reduced.status();
  return reduced.ok() ? *reduced : Reduced{};
}

TEST_P(ReducerConformanceTest, EveryDivisionAmongReducersGivesTheSameBits) {
  std::vector<Partial> partials;
  for (uint64_t k = 0; k < 5; ++k) partials.push_back(Valid(k));
  const Reduced expected = Fold(GetParam(), partials);
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const Reduced found = FoldByParts(GetParam(), partials, seed);
    ExpectSameBits(found, expected);
    ASSERT_EQ(found.updates.size(), expected.updates.size());
    for (size_t i = 0; i < found.updates.size(); ++i) {
      EXPECT_EQ(found.updates[i].participant, expected.updates[i].participant);
      EXPECT_EQ(found.updates[i].values, expected.updates[i].values);
    }
    EXPECT_EQ(found.by_participant.size(), expected.by_participant.size());
    EXPECT_EQ(found.counts, expected.counts);
  }
}

TEST_P(ReducerConformanceTest, AParticipantIsAbsorbedOnce) {
  auto other = Make(GetParam());
  ASSERT_TRUE(other->Merge(Valid(0)).ok());
  ASSERT_TRUE(other->Merge(Valid(2)).ok());
  const std::string saved = other->Save().value();
  auto reducer = Make(GetParam());
  ASSERT_TRUE(reducer->Merge(Valid(0)).ok());
  EXPECT_EQ(base::ReasonOf(reducer->Absorb(saved)), "DUPLICATE_PARTICIPANT");
  ASSERT_TRUE(reducer->Merge(Valid(1)).ok());
  ExpectSameBits(reducer->Finish().value(), Fold(GetParam(), {Valid(0), Valid(1)}));
}

TEST_P(ReducerConformanceTest, DamagedOrForeignSumsAreRefused) {
  auto other = Make(GetParam());
  ASSERT_TRUE(other->Merge(Valid(0)).ok());
  const std::string saved = other->Save().value();
  auto reducer = Make(GetParam());
  ASSERT_TRUE(reducer->Merge(Valid(1)).ok());
  for (size_t i = 0; i < saved.size(); ++i) {
    std::string damaged = saved;
    damaged[i] = static_cast<char>(damaged[i] ^ 0x40);
    EXPECT_EQ(base::ReasonOf(reducer->Absorb(damaged)), "SAVED_SUMS_INVALID") << i;
    EXPECT_EQ(base::ReasonOf(reducer->Absorb(saved.substr(0, i))), "SAVED_SUMS_INVALID") << i;
  }
  for (const ReducerKind kind :
       {ReducerKind::kMean, ReducerKind::kMetrics, ReducerKind::kOwnersMean}) {
    if (kind == GetParam().kind) continue;
    const Case foreign{.name = "", .kind = kind};
    EXPECT_EQ(base::ReasonOf(reducer->Absorb(Make(foreign)->Save().value())), "SAVED_SUMS_INVALID");
  }
  ExpectSameBits(reducer->Finish().value(), Fold(GetParam(), {Valid(1)}));
}

const Case kMeanCase = {.name = "Mean"};
const Case kOwnersCase = {.name = "OwnersMean", .kind = ReducerKind::kOwnersMean};

// Reducers of values; the norm is out of reach of what NastyPartial() makes.
std::vector<Case> ValueCases() {
  return {kMeanCase,
          kOwnersCase,
          {.name = "MeanKept", .aggregation = {.keep_updates = true}},
          {.name = "MeanClipped", .aggregation = {.clip_norm = 1e9}},
          {.name = "Median", .aggregation = {.rule = Rule::kMedian}},
          {.name = "TrimmedMean", .aggregation = {.rule = Rule::kTrimmedMean}},
          {.name = "Krum", .aggregation = {.rule = Rule::kKrum}},
          {.name = "MultiKrum", .aggregation = {.rule = Rule::kMultiKrum, .selected = 2}}};
}

std::vector<Case> AllCases() {
  std::vector<Case> cases = ValueCases();
  cases.push_back({.name = "Metrics", .kind = ReducerKind::kMetrics});
  return cases;
}

std::string NameOf(const testing::TestParamInfo<Case>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Kinds, ReducerConformanceTest, testing::ValuesIn(AllCases()), NameOf);

class ValueReducerTest : public ReducerConformanceTest {};
class MeanReducerTest : public ReducerConformanceTest {};

TEST_P(ValueReducerTest, NonFiniteValueIsRefused) {
  for (const float value :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    Partial bad = Valid(2);
    std::vector<float> values(11, 1.0f);
    values[10] = value;
    SetValues(bad, values);
    ExpectRefusedUnchanged(bad, "NON_FINITE");
  }
}

TEST_P(MeanReducerTest, HugeValueIsRefused) {
  Partial bad = Valid(2);
  std::vector<float> values(11, 1.0f);
  values[4] = 1e30f;
  SetValues(bad, values);
  ExpectRefusedUnchanged(bad, "VALUE_OUT_OF_RANGE");
}

TEST_P(ValueReducerTest, SourceThatDeliversLessThanItDeclaredIsRefused) {
  Partial bad = Valid(2);
  bad.values = InPieces(std::vector<float>(9, 1.0f));
  ExpectRefusedUnchanged(bad, "SHAPE_MISMATCH");
  bad.values = InPieces(std::vector<float>(13, 1.0f));
  ExpectRefusedUnchanged(bad, "SHAPE_MISMATCH");
}

TEST_P(ValueReducerTest, UpdateWithoutExamplesIsRefused) {
  Partial bad = Valid(2);
  bad.examples = 0;
  bad.correct = 0;
  ExpectRefusedUnchanged(bad, "NO_EXAMPLES");
}

TEST_P(ValueReducerTest, InvalidScoresAreRefused) {
  if (GetParam().kind == ReducerKind::kOwnersMean) {
    Partial bad = Valid(2);
    bad.scores = {{{1}, {1.0F}}, {}};
    ExpectRefusedUnchanged(bad, "SHAPE_MISMATCH");
    return;
  }
  Partial bad = Valid(2);
  bad.scores = {{{1, 2}, {1.0f, std::numeric_limits<float>::quiet_NaN()}}, {}};
  ExpectRefusedUnchanged(bad, "NON_FINITE");
  bad.scores = {{{1, 2}, {1.0f}}, {}};
  ExpectRefusedUnchanged(bad, "SHAPE_MISMATCH");
  bad.scores = {{{1}, {1.0f}}};
  ExpectRefusedUnchanged(bad, "SHAPE_MISMATCH");
  for (const std::vector<int64_t>& positions :
       {std::vector<int64_t>{2, 1}, {1, 1}, {-1, 1}, {1, 24}, {1, 3}}) {
    bad.scores = {{positions, {1.0f, 1.0f}}, {}};
    ExpectRefusedUnchanged(bad, "VALUE_IMPOSSIBLE");
  }
  bad.scores = {{}, {{0}, {1.0f}}};  // a dense tensor has no inactive position
  ExpectRefusedUnchanged(bad, "VALUE_IMPOSSIBLE");
}

TEST_P(MeanReducerTest, MeanIsWeightedByExamples) {
  std::vector<Partial> partials(2);
  partials[0].participant = "a";
  partials[0].examples = 30;
  partials[0].loss_sum = 3;
  SetValues(partials[0], std::vector<float>(11, 1.0f));
  partials[1].participant = "b";
  partials[1].examples = 10;
  partials[1].loss_sum = 5;
  SetValues(partials[1], std::vector<float>(11, -7.0f));
  const Reduced reduced = Fold(GetParam(), partials);
  EXPECT_EQ(test::ValuesOf(reduced), std::vector<float>(11, -1.0f));
  EXPECT_EQ(reduced.examples, 40);
  EXPECT_EQ(reduced.loss_sum, 8.0);
}

TEST_P(MeanReducerTest, CancellationIsExact) {
  std::vector<Partial> partials(3);
  const std::vector<float> values = {8388608.0f, 1e-9f, -8388608.0f};
  for (size_t k = 0; k < 3; ++k) {
    partials[k].participant = std::string(1, static_cast<char>('a' + k));
    partials[k].examples = 1;
    SetValues(partials[k], std::vector<float>(11, values[k]));
  }
  const Reduced reduced = Fold(GetParam(), partials);
  EXPECT_EQ(test::ValuesOf(reduced)[0], static_cast<float>(static_cast<double>(1e-9f) / 3));
}

// Computed by hand: positions that a participant did not report count as zero there.
TEST_P(MeanReducerTest, ScoresAreSampleWeightedSumsOverAllExamples) {
  if (GetParam().kind == ReducerKind::kOwnersMean) return;  // it takes none
  std::vector<Partial> partials(3);
  const std::vector<int64_t> examples = {50, 30, 20};
  const std::vector<ScoreList> lists = {
      {{1, 9}, {.9f, -.5f}}, {{1, 10}, {-1.0f, .6f}}, {{9, 11}, {-.8f, 1.5f}}};
  for (size_t k = 0; k < 3; ++k) {
    partials[k].participant = std::string(1, static_cast<char>('a' + k));
    partials[k].examples = examples[k];
    SetValues(partials[k], std::vector<float>(11, 0.0f));
    partials[k].scores = {lists[k], {}};
  }
  const Reduced reduced = Fold(GetParam(), partials);
  ASSERT_EQ(reduced.scores.size(), 2u);
  EXPECT_EQ(reduced.scores[0].positions, (std::vector<int64_t>{1, 9, 10, 11}));
  const std::vector<float> expected = {.15f, -.41f, .18f, .30f};
  for (size_t i = 0; i < 4; ++i) EXPECT_NEAR(reduced.scores[0].values[i], expected[i], 1e-6f);
  EXPECT_TRUE(reduced.scores[1].positions.empty());
}

TEST_P(MeanReducerTest, SourceThatFailsInItsSecondReadingBreaksTheReducer) {
  auto reducer = Make(GetParam());
  Partial bad = Valid(2);
  int readings = 0;
  bad.values = [&](const std::function<absl::Status(std::span<const float>)>& sink) {
    return ++readings == 1 ? sink(std::vector<float>(11, 1.0f))
                           : absl::DataLossError("file vanished");
  };
  EXPECT_EQ(base::ReasonOf(reducer->Merge(bad)), "REDUCER_BROKEN");
  EXPECT_EQ(base::ReasonOf(reducer->Merge(Valid(1))), "REDUCER_BROKEN");
  EXPECT_EQ(base::ReasonOf(reducer->Finish().status()), "REDUCER_BROKEN");
}

TEST_P(MeanReducerTest, TotalPastTheRangeIsRefusedWhateverTheOrder) {
  auto reducer = Make(GetParam());
  for (int k = 0; k < 65; ++k) {
    Partial partial;
    partial.participant = std::to_string(k);
    partial.examples = 1;
    SetValues(partial, std::vector<float>(11, 0x1.fffffep35f));
    ASSERT_TRUE(reducer->Merge(partial).ok());
  }
  EXPECT_EQ(base::ReasonOf(reducer->Finish().status()), "VALUE_OUT_OF_RANGE");
}

INSTANTIATE_TEST_SUITE_P(Kinds, MeanReducerTest, testing::Values(kMeanCase, kOwnersCase), NameOf);
INSTANTIATE_TEST_SUITE_P(Kinds, ValueReducerTest, testing::ValuesIn(ValueCases()), NameOf);

Partial WithState(std::vector<float> second_moments) {
  Partial partial;
  partial.participant = "shard-0";
  partial.examples = 2;
  std::vector<float> values(22, -1.0F);
  values.insert(values.end(), second_moments.begin(), second_moments.end());
  SetValues(partial, values);
  return partial;
}

wire::ResultLayout WithAdam() {
  v1::Task task;
  v1::Optimizer& optimizer = *task.mutable_train()->mutable_training()->mutable_optimizer();
  optimizer.set_kind(v1::Optimizer::KIND_ADAM);
  optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  return wire::ResultLayoutOf(task, *SmallTopology());
}

TEST(OptimizerStateTest, IsAveragedBesideTheWeights) {
  auto reducer = MakeReducer(ReducerKind::kMean, SmallTopology(), WithAdam());
  Partial other = WithState(std::vector<float>(11, 4.0F));
  other.participant = "shard-1";
  ASSERT_TRUE(reducer->Merge(WithState(std::vector<float>(11, 1.0F))).ok());
  ASSERT_TRUE(reducer->Merge(other).ok());
  const auto reduced = reducer->Finish();
  ASSERT_TRUE(reduced.ok());
  ASSERT_EQ(reduced->Section(v1::SECTION_KIND_VALUES).size(), 11u);
  const auto state = reduced->Section(v1::SECTION_KIND_OPTIMIZER_STATE);
  ASSERT_EQ(state.size(), 22u);
  EXPECT_EQ(state[10], -1.0F);
  EXPECT_EQ(state[11], 2.5F);
}

TEST_P(ValueReducerTest, StateThatCannotBeIsRefused) {
  auto reducer = MakeReducer(ReducerKind::kMean, SmallTopology(), WithAdam(),
                             GetParam().aggregation, std::vector<float>(11, 0.0F));
  std::vector<float> negative(11, 1.0F);
  negative[10] = -1e-9F;
  EXPECT_EQ(base::ReasonOf(reducer->Merge(WithState(negative))), "VALUE_IMPOSSIBLE");
  EXPECT_EQ(base::ReasonOf(reducer->Merge(WithState({}))), "SHAPE_MISMATCH");
}

Partial Owner(const std::string& name, int64_t examples, std::vector<int64_t> positions,
              const std::vector<float>& weights) {
  Partial partial;
  partial.participant = name;
  partial.examples = examples;
  partial.topology = OwnStructure(positions);
  std::vector<float> values = weights;
  values.insert(values.end(), 4, static_cast<float>(examples));
  SetValues(partial, values);
  return partial;
}

TEST(OwnersReducerTest, EachPositionIsTheMeanOfThoseWhoHaveIt) {
  auto reducer =
      MakeReducer(ReducerKind::kOwnersMean, OwnStructure({2, 5, 9}), test::ValuesLayout(7));
  ASSERT_TRUE(reducer->Merge(Owner("a", 30, {2, 7, 9}, {1, 4, 10})).ok());
  ASSERT_TRUE(reducer->Merge(Owner("b", 10, {2, 7, 20}, {5, 8, -3})).ok());
  const auto reduced = reducer->Finish();
  ASSERT_TRUE(reduced.ok());
  // 5 has no owner any more. 2: (30·1 + 10·5) / 40; 7: (30·4 + 10·8) / 40; 9 and 20 have one each.
  EXPECT_EQ(reduced->topology->topology(0).Positions(), (std::vector<int64_t>{2, 7, 9, 20}));
  EXPECT_EQ(test::ValuesOf(*reduced), (std::vector<float>{2, 5, 10, -3, 25, 25, 25, 25}));
}

TEST(OwnersReducerTest, StructureWithAnotherNumberOfWeightsIsRefusedUnchanged) {
  auto reducer =
      MakeReducer(ReducerKind::kOwnersMean, OwnStructure({2, 5, 9}), test::ValuesLayout(7));
  Partial bad = Owner("b", 10, {2, 7}, {5, 8});
  EXPECT_EQ(base::ReasonOf(reducer->Merge(bad)), "SHAPE_MISMATCH");
  bad = Owner("b", 10, {2, 7, 9, 11}, {5, 8, 1, 1});
  EXPECT_EQ(base::ReasonOf(reducer->Merge(bad)), "SHAPE_MISMATCH");
  bad = Owner("b", 10, {2, 7, 9}, {5, 8, 1});
  bad.topology = test::TopologyWithStatistics();
  EXPECT_EQ(base::ReasonOf(reducer->Merge(bad)), "SHAPE_MISMATCH");
  ASSERT_TRUE(reducer->Merge(Owner("a", 30, {2, 5, 9}, {1, 4, 10})).ok());
  EXPECT_EQ(test::ValuesOf(*reducer->Finish()), (std::vector<float>{1, 4, 10, 30, 30, 30, 30}));
}

}  // namespace
}  // namespace espalier::server::reduce
