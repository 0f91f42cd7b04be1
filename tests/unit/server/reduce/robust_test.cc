// Robust rules against vectors worked by hand, and what a hostile participant can and cannot do.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "server/reduce/reducer.h"
#include "server/reduce/robust_rules.h"
#include "tests/support/result_layouts.h"

namespace espalier::server::reduce {
namespace {

using Vectors = std::vector<std::vector<float>>;

std::vector<std::span<const float>> Views(const Vectors& vectors) {
  return {vectors.begin(), vectors.end()};
}

TEST(MedianTest, OddNumberTakesTheMiddleEvenTheMeanOfTwo) {
  EXPECT_EQ(CoordinateMedian(Views({{1, 10}, {5, -2}, {2, 1e30F}})), (std::vector<float>{2, 10}));
  EXPECT_EQ(CoordinateMedian(Views({{1, 10}, {5, -2}, {2, 1e30F}, {4, 4}})),
            (std::vector<float>{3, 7}));
  EXPECT_EQ(CoordinateMedian(Views({{3, -1}})), (std::vector<float>{3, -1}));
}

TEST(MedianTest, ManyValuesAreTakenOneByOne) {
  Vectors vectors(3, std::vector<float>(1000));
  for (size_t i = 0; i < 1000; ++i) {
    const auto value = static_cast<float>(i);
    vectors[i % 3][i] = value;
    vectors[(i + 1) % 3][i] = -1;
    vectors[(i + 2) % 3][i] = 2000;
  }
  const std::vector<float> medians = CoordinateMedian(Views(vectors));
  for (size_t i = 0; i < 1000; ++i) ASSERT_EQ(medians[i], static_cast<float>(i));
}

// Every number of participants: the median of a permutation of 0..n−1, different for each value.
TEST(MedianTest, OfAnyNumberOfUpdates) {
  for (size_t n = 1; n <= 70; ++n) {
    Vectors vectors(n, std::vector<float>(300));
    base::Rng rng(n);
    for (size_t i = 0; i < 300; ++i) {
      std::vector<float> column(n);
      std::iota(column.begin(), column.end(), 0.0F);
      base::Shuffle(std::span(column), rng);
      for (size_t k = 0; k < n; ++k) vectors[k][i] = column[k];
    }
    const auto middle = static_cast<float>(n - 1) / 2;
    ASSERT_EQ(CoordinateMedian(Views(vectors)), std::vector<float>(300, middle)) << n;
    const auto cut = static_cast<int64_t>((n - 1) / 2);
    ASSERT_EQ(TrimmedMean(Views(vectors), cut), std::vector<float>(300, middle)) << n;
    vectors[0].assign(300, -1e30F);
    vectors[n / 2].assign(300, 1e30F);
    if (n < 3) continue;
    for (const float mean : TrimmedMean(Views(vectors), 1)) ASSERT_LE(std::abs(mean), 70) << n;
  }
}

TEST(TrimmedMeanTest, CutsBothEndsOfEachValue) {
  const Vectors vectors = {{1, 9}, {2, 8}, {4, -50}, {100, 7}, {-100, 3}};
  EXPECT_EQ(TrimmedMean(Views(vectors), 1), (std::vector<float>{7.0F / 3, 6}));
  EXPECT_EQ(TrimmedMean(Views(vectors), 2), (std::vector<float>{2, 7}));
  EXPECT_EQ(TrimmedMean(Views(vectors), 0), (std::vector<float>{1.4F, -4.6F}));
}

TEST(TrimmedMeanTest, ShareIsRoundedUpAndLeavesOne) {
  EXPECT_EQ(TrimCount(0.1, 5), 1);
  EXPECT_EQ(TrimCount(0.1, 10), 1);
  EXPECT_EQ(TrimCount(0.1, 11), 2);
  EXPECT_EQ(TrimCount(0.3, 10), 3);
  EXPECT_EQ(TrimCount(0.49, 2), 0);
  EXPECT_EQ(TrimCount(0.49, 5), 2);
  EXPECT_EQ(TrimCount(0.1, 1), 0);
}

// Points on a line: 0, 1, 3, 4, 100. With byzantine = 1 each has 5 − 1 − 2 = 2 neighbours.
// Squared distances: 0: 1 + 9; 1: 1 + 4; 3: 1 + 4; 4: 1 + 9; 100: 96² + 97².
TEST(KrumTest, ScoreIsTheSumOverTheNearest) {
  const Vectors vectors = {{0}, {1}, {3}, {4}, {100}};
  const std::vector<ValueRange> all = {{0, 1}};
  EXPECT_EQ(KrumScores(Views(vectors), all, 1), (std::vector<double>{10, 5, 5, 10, 18625}));
  // Without hostile updates three neighbours count.
  EXPECT_EQ(KrumScores(Views(vectors), all, 0),
            (std::vector<double>{26, 14, 14, 26, 18625 + 9801}));
}

TEST(KrumTest, OnlyTheRangesCount) {
  const Vectors vectors = {{0, 7, 0}, {1, 900, 2}, {3, -4, 0}};
  const std::vector<ValueRange> ranges = {{0, 1}, {2, 3}};
  EXPECT_EQ(KrumScores(Views(vectors), ranges, 0), (std::vector<double>{5, 5, 8}));
}

TEST(KrumTest, LongDistancesAreExactSums) {
  const Vectors vectors = {std::vector<float>(1003, 1), std::vector<float>(1003, 3)};
  const std::vector<ValueRange> all = {{0, 1003}};
  EXPECT_EQ(KrumScores(Views(vectors), all, 0), (std::vector<double>{4012, 4012}));
}

TEST(KrumTest, LowestScoresAndTheLowerIndexAmongEquals) {
  EXPECT_EQ(LowestScores(std::vector<double>{3, 1, 1, 2}, 1), (std::vector<size_t>{1}));
  EXPECT_EQ(LowestScores(std::vector<double>{3, 1, 1, 2}, 3), (std::vector<size_t>{1, 2, 3}));
  const std::vector<size_t> chosen = {1, 2};
  EXPECT_EQ(MeanOf(Views({{9, 9}, {1, 2}, {2, 4}}), chosen), (std::vector<float>{1.5F, 3}));
}

// A sparse tensor of 2 × 4 with 3 weights, and a running statistic.
std::shared_ptr<const tensor::ModelTopology> WithBuffer() {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"layers.0.weight", {2, 4}, 2, 4, true});
  layout->push_back({"layers.1.running_mean", {1}, 1, 1, false, true});
  auto topology = tensor::Topology::FromPositions(2, 4, std::vector<int64_t>{0, 3, 5});
  auto model = tensor::ModelTopology::Create(
      layout, {std::make_shared<const tensor::Topology>(std::move(topology).value()), nullptr});
  return std::make_shared<const tensor::ModelTopology>(std::move(model).value());
}

Partial Sends(const std::string& participant, std::vector<float> values,
              std::vector<ScoreList> scores = {}) {
  Partial partial;
  partial.participant = participant;
  partial.examples = 10;
  partial.values_count = static_cast<int64_t>(values.size());
  partial.values = [values = std::move(values)](const auto& sink) { return sink(values); };
  partial.scores = std::move(scores);
  return partial;
}

absl::StatusOr<Reduced> Fold(const Aggregation& aggregation, const std::vector<Partial>& partials) {
  const auto topology = WithBuffer();
  wire::ResultLayout layout = test::ValuesLayout(partials[0].values_count);
  layout.weights = {{0, 3}};
  auto reducer = MakeReducer(ReducerKind::kMean, topology, layout, aggregation,
                             std::vector<float>{1, 1, 1, 1});
  for (const Partial& partial : partials) ESPALIER_RETURN_IF_ERROR(reducer->Merge(partial));
  return reducer->Finish();
}

const std::vector<Aggregation>& RobustAggregations() {
  static const std::vector<Aggregation> all = {{.rule = Rule::kMedian},
                                               {.rule = Rule::kTrimmedMean, .trim_fraction = 0.2},
                                               {.rule = Rule::kKrum, .byzantine = 1},
                                               {.rule = Rule::kMultiKrum, .byzantine = 1}};
  return all;
}

TEST(RobustReducerTest, AHostileUpdateStaysWithoutInfluence) {
  for (const Aggregation& aggregation : RobustAggregations()) {
    std::vector<Partial> partials;
    for (int k = 0; k < 4; ++k) {
      const float value = 1 + 0.01F * static_cast<float>(k);
      partials.push_back(Sends("honest-" + std::to_string(k), {value, -value, 2 * value, 0.5F}));
    }
    partials.push_back(Sends("a-hostile", {3e37F, -3e37F, 3e37F, 3e37F}));
    partials.back().examples = 1'000'000'000;
    const auto reduced = Fold(aggregation, partials);
    ASSERT_TRUE(reduced.ok()) << reduced.status();
    EXPECT_GE(test::ValuesOf(*reduced)[0], 1.0F);
    EXPECT_LE(test::ValuesOf(*reduced)[0], 1.031F);
    EXPECT_GE(test::ValuesOf(*reduced)[2], 2.0F);
    EXPECT_LE(test::ValuesOf(*reduced)[2], 2.062F);
    EXPECT_EQ(test::ValuesOf(*reduced)[3], 0.5F);
    EXPECT_EQ(reduced->participants, 5);
  }
}

TEST(RobustReducerTest, ExamplesDoNotWeigh) {
  std::vector<Partial> partials = {Sends("a", {0, 0, 0, 0}), Sends("b", {1, 1, 1, 1}),
                                   Sends("c", {5, 5, 5, 5})};
  partials[2].examples = 1000;
  EXPECT_EQ(test::ValuesOf(*Fold({.rule = Rule::kMedian}, partials)), (std::vector<float>(4, 1)));
  EXPECT_EQ(test::ValuesOf(*Fold({.rule = Rule::kMultiKrum, .selected = 3}, partials)),
            (std::vector<float>(4, 2)));
}

TEST(RobustReducerTest, KrumComparesWeightsAndTakesStatisticsWithThem) {
  const std::vector<Partial> partials = {Sends("a", {0, 0, 0, 500}), Sends("b", {1, 0, 0, 7}),
                                         Sends("c", {2, 0, 0, 7})};
  const auto reduced = Fold({.rule = Rule::kKrum}, partials);
  EXPECT_EQ(test::ValuesOf(*reduced), (std::vector<float>{0, 0, 0, 500}))
      << "a and b are equally near";
}

TEST(RobustReducerTest, OptimizerStateGoesByTheSameRule) {
  const auto with_state = [](float w, float m, float v) {
    return std::vector<float>{w, w, w, w, m, m, m, m, v, v, v, v};
  };
  const std::vector<Partial> partials = {Sends("a", with_state(0, 1, 2)),
                                         Sends("b", with_state(1, 5, 4)),
                                         Sends("c", with_state(9, 3, 8))};
  EXPECT_EQ(test::ValuesOf(*Fold({.rule = Rule::kMedian}, partials)), with_state(1, 3, 4));
  EXPECT_EQ(test::ValuesOf(*Fold({.rule = Rule::kKrum}, partials)), with_state(0, 1, 2));
}

TEST(RobustReducerTest, KrumWithTooFewUpdatesSaysSo) {
  const std::vector<Partial> partials = {Sends("a", {0, 0, 0, 0}), Sends("b", {1, 0, 0, 0})};
  EXPECT_EQ(base::ReasonOf(Fold({.rule = Rule::kKrum, .byzantine = 1}, partials).status()),
            "TOO_FEW_UPDATES");
}

// Norms of the lists: 1, 2 and 1000: the last is scaled down to 2.
TEST(RobustReducerTest, ScoresOfOneParticipantDoNotDrownTheOthers) {
  const std::vector<float> values = {0, 0, 0, 0};
  const std::vector<Partial> partials = {Sends("a", values, {{{1}, {1}}, {}}),
                                         Sends("b", values, {{{1, 2}, {0, 2}}, {}}),
                                         Sends("c", values, {{{2, 4}, {600, -800}}, {}})};
  const auto reduced = Fold({.rule = Rule::kMedian}, partials);
  ASSERT_EQ(reduced->scores.size(), 2u);
  EXPECT_EQ(reduced->scores[0].positions, (std::vector<int64_t>{1, 2, 4}));
  EXPECT_FLOAT_EQ(reduced->scores[0].values[0], 1.0F / 3);
  EXPECT_FLOAT_EQ(reduced->scores[0].values[1], 3.2F / 3);
  EXPECT_FLOAT_EQ(reduced->scores[0].values[2], -1.6F / 3);
}

TEST(RobustReducerTest, KrumTakesTheScoresOfWhomItChooses) {
  const std::vector<Partial> partials = {Sends("a", {0, 0, 0, 0}, {{{1}, {1}}, {}}),
                                         Sends("b", {0, 0, 0, 0}, {{{2}, {3}}, {}}),
                                         Sends("c", {9, 9, 9, 0}, {{{4}, {1e30F}}, {}})};
  const auto krum = Fold({.rule = Rule::kKrum}, partials);
  EXPECT_EQ(krum->scores[0].positions, (std::vector<int64_t>{1}));
  const auto multi = Fold({.rule = Rule::kMultiKrum, .selected = 2}, partials);
  EXPECT_EQ(multi->scores[0].positions, (std::vector<int64_t>{1, 2}));
  EXPECT_EQ(multi->scores[0].values, (std::vector<float>{0.5F, 1.5F}));
  const auto all = Fold({.rule = Rule::kMultiKrum, .selected = 3}, partials);
  EXPECT_EQ(all->scores[0].values[2], 0x1p24F / 3) << "cut, not overflown";
}

// The model is (1, 1, 1, 1), the update's difference (3, 4, 0 | 10), its norm over weights 5.
TEST(ClippingTest, DifferenceIsScaledDownToTheNorm) {
  const Partial update = Sends("a", {4, 5, 1, 11}, {{{1}, {6}}, {}});
  const auto reduced = Fold({.clip_norm = 2.5}, {update});
  EXPECT_EQ(test::ValuesOf(*reduced), (std::vector<float>{2.5F, 3, 1, 6}));
  EXPECT_EQ(reduced->scores[0].values, (std::vector<float>{3}));
}

TEST(ClippingTest, UpdateWithinTheNormKeepsItsBits) {
  const std::vector<float> values = {4, 5, 1, 11};
  EXPECT_EQ(test::ValuesOf(*Fold({.clip_norm = 5}, {Sends("a", values)})), values);
}

TEST(ClippingTest, HugeUpdateCountsAndNonFiniteOneIsRefused) {
  const auto reduced = Fold({.clip_norm = 2}, {Sends("a", {3e38F, 1, 1, 1})});
  ASSERT_TRUE(reduced.ok()) << reduced.status();
  EXPECT_FLOAT_EQ(test::ValuesOf(*reduced)[0], 3);
  EXPECT_EQ(base::ReasonOf(Fold({.clip_norm = 2}, {Sends("a", {INFINITY, 1, 1, 1})}).status()),
            "NON_FINITE");
  EXPECT_EQ(base::ReasonOf(Fold({.clip_norm = 2}, {Sends("a", {NAN, 1, 1, 1})}).status()),
            "NON_FINITE");
}

TEST(ClippingTest, ComesBeforeTheRule) {
  const std::vector<Partial> partials = {Sends("a", {1, 1, 1, 1}), Sends("b", {9, 1, 1, 1})};
  EXPECT_EQ(test::ValuesOf(*Fold({.rule = Rule::kMedian, .clip_norm = 2}, partials))[0], 2.0F);
}

TEST(KeepingTest, ResultHasWhatEachParticipantSent) {
  Partial b = Sends("b", {4, 5, 1, 11});
  b.steps = 7;
  const auto reduced = Fold({.keep_updates = true}, {b, Sends("a", {2, 3, 1, 1})});
  EXPECT_EQ(test::ValuesOf(*reduced), (std::vector<float>{3, 4, 1, 6}));
  ASSERT_EQ(reduced->updates.size(), 2u);
  EXPECT_EQ(reduced->updates[0].participant, "a");
  EXPECT_EQ(reduced->updates[0].values, (std::vector<float>{2, 3, 1, 1}));
  EXPECT_EQ(reduced->updates[1].steps, 7);
}

}  // namespace
}  // namespace espalier::server::reduce
