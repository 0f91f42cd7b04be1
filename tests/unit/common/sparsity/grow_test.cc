#include "common/sparsity/grow.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/complement.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/random_topology.h"
#include "common/tensor/model.h"

namespace espalier::sparsity {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

using Positions = std::vector<int64_t>;
using Values = std::vector<float>;
using tensor::Topology;
using tensor::TopologyDiff;

Topology Make(int64_t rows, int64_t cols, const Positions& positions) {
  return Topology::FromPositions(rows, cols, positions).value();
}

Values RandomValues(size_t count, uint64_t key) {
  base::Rng rng(key);
  Values values(count);
  for (float& value : values) value = static_cast<float>(rng.Uniform()) - 0.5f;
  return values;
}

// The values after a change of structure, through the same path that programs use.
Values Carry(const Topology& topology, const Values& values, const TopologyDiff& diff) {
  const auto layout = std::make_shared<const tensor::ModelLayout>(tensor::ModelLayout{
      {"w", {topology.rows(), topology.cols()}, topology.rows(), topology.cols(), true}});
  const auto model = [&](Topology structure) {
    return std::make_shared<const tensor::ModelTopology>(
        tensor::ModelTopology::Create(layout,
                                      {std::make_shared<const Topology>(std::move(structure))})
            .value());
  };
  const tensor::ModelState old{model(topology), values};
  return tensor::Relayout(old, model(tensor::Apply(topology, diff).value())).values;
}

TEST(GrowTest, RandomGrowthIsTheDrawnRanksAmongWhatIsNotKept) {
  const Topology topology = RandomTopology(40, 50, 300, 1).value();
  const std::vector<int32_t> dropped = DropRandom(300, 90, 2);
  const Positions grown = GrowRandom(topology, dropped, 90, 3);
  const Positions kept = KeptPositions(topology, dropped);
  EXPECT_EQ(grown, RankToPosition(kept, DrawPositions(3, 90, 2000 - 210)));
  const Topology changed = tensor::Apply(topology, {dropped, grown}).value();
  EXPECT_EQ(changed.nnz(), 300);
}

TEST(GrowTest, JustDroppedPositionsAreEligibleForRandomGrowth) {
  const Topology full = Topology::Full(3, 3).value();
  // Only the dropped positions are free, so they all come back.
  EXPECT_THAT(GrowRandom(full, std::vector<int32_t>{2, 5}, 2, 4), ElementsAre(2, 5));
  EXPECT_THAT(GrowRandom(full, {}, 0, 4), IsEmpty());
}

TEST(GrowTest, RandomGrowthKeepsTheCountAtAnyDensity) {
  for (const auto& [rows, cols] : {std::pair<int64_t, int64_t>{17, 1}, {1, 17}, {20, 30}}) {
    const int64_t size = rows * cols;
    for (const int64_t nnz : {int64_t{0}, int64_t{1}, size / 2, size - 1, size}) {
      const Topology topology = RandomTopology(rows, cols, nnz, 5).value();
      const std::vector<int32_t> dropped = DropRandom(nnz, nnz / 3, 6);
      const Positions grown = GrowRandom(topology, dropped, nnz / 3, 7);
      EXPECT_EQ(tensor::Apply(topology, {dropped, grown})->nnz(), nnz);
    }
  }
}

TEST(GrowTest, LargestScoresGrowAndTiesTakeTheLowerPosition) {
  EXPECT_THAT(GrowByScore(Positions{2, 4, 6, 8}, Values{.5f, -1, -.5f, .5f}, 2), ElementsAre(2, 4));
  EXPECT_THAT(GrowByScore(Positions{2, 4}, Values{0, 0}, 1), ElementsAre(2));
}

TEST(GrowTest, FewerCandidatesThanAskedForAllGrow) {
  EXPECT_THAT(GrowByScore(Positions{2, 4}, Values{.5f, 1}, 5), ElementsAre(2, 4));
  EXPECT_THAT(GrowByScore({}, {}, 5), IsEmpty());
}

TEST(GrowTest, UnusableCandidatesAreRefused) {
  const Topology topology = Make(2, 4, {0, 2, 5, 7});
  const auto reason = [&](Positions positions) {
    return base::ReasonOf(CheckCandidates(topology, positions));
  };
  EXPECT_EQ(reason({1, 3, 4, 6}), "");
  EXPECT_EQ(reason({}), "");
  EXPECT_EQ(reason({1, 2}), "CANDIDATE_ACTIVE");
  EXPECT_EQ(reason({3, 1}), "CANDIDATES_NOT_ASCENDING");
  EXPECT_EQ(reason({1, 1}), "CANDIDATES_NOT_ASCENDING");
  EXPECT_EQ(reason({8}), "CANDIDATE_OUT_OF_RANGE");
  EXPECT_EQ(reason({-1}), "CANDIDATE_OUT_OF_RANGE");
}

class RigLGoldenTest : public ::testing::Test {
 protected:
  const Topology topology_ = Make(2, 4, {0, 2, 5, 7});
  const Values values_ = {.9f, .1f, -.5f, .05f};
  const Positions inactive_ = {1, 3, 4, 6};
  const Values gradients_ = {.7f, -.9f, .3f, -.6f};
  const Values active_gradients_ = {.2f, .01f, .1f, .02f};
};

TEST_F(RigLGoldenTest, DropsAndGrowsTheGoldenPositions) {
  for (const bool with_active : {false, true}) {
    const TopologyDiff diff = RigLUpdate(topology_, values_, {inactive_, gradients_}, 2,
                                         with_active ? active_gradients_ : Values{})
                                  .value();
    EXPECT_THAT(diff.dropped, ElementsAre(1, 3));
    EXPECT_THAT(diff.grown, ElementsAre(1, 3));
    EXPECT_THAT(Carry(topology_, values_, diff), ElementsAre(.9f, 0, 0, -.5f));
  }
}

TEST_F(RigLGoldenTest, RegrownPositionIsNotChanged) {
  // (0,2) is dropped, but its gradient is the second largest: it stays with its value.
  const TopologyDiff diff =
      RigLUpdate(topology_, values_, {inactive_, gradients_}, 2, Values{.2f, .8f, .1f, .02f})
          .value();
  EXPECT_THAT(diff.dropped, ElementsAre(3));
  EXPECT_THAT(diff.grown, ElementsAre(3));
  EXPECT_THAT(Carry(topology_, values_, diff), ElementsAre(.9f, .1f, 0, -.5f));
}

TEST_F(RigLGoldenTest, CountStaysConstantWhenCandidatesAreFew) {
  const TopologyDiff diff = RigLUpdate(topology_, values_, {Positions{6}, Values{.1f}}, 3).value();
  EXPECT_THAT(diff.dropped, ElementsAre(3));
  EXPECT_THAT(diff.grown, ElementsAre(6));
}

TEST_F(RigLGoldenTest, NumbersThatDoNotAgreeAreRefused) {
  const auto reason = [&](Values values, Values gradients, Values active) {
    return base::ReasonOf(
        RigLUpdate(topology_, values, {inactive_, gradients}, 1, active).status());
  };
  EXPECT_EQ(reason(values_, gradients_, {}), "");
  EXPECT_EQ(reason({1, 2}, gradients_, {}), "SHAPE_MISMATCH");
  EXPECT_EQ(reason(values_, {1, 2}, {}), "SHAPE_MISMATCH");
  EXPECT_EQ(reason(values_, gradients_, {1, 2}), "SHAPE_MISMATCH");
}

TEST(RigLTest, FullTopologyWithoutCandidatesIsLeftAlone) {
  const TopologyDiff diff =
      RigLUpdate(Topology::Full(3, 1).value(), Values{1, 2, 3}, {}, 2).value();
  EXPECT_THAT(diff.dropped, IsEmpty());
  EXPECT_THAT(diff.grown, IsEmpty());
}

// Against the paper's rule over dense arrays: drop by magnitude, then grow the largest gradients of
// everything that is not kept.
TEST(RigLTest, EqualsTheDenseRule) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Topology topology = RandomTopology(15, 21, 80, seed).value();
    const Values values = RandomValues(80, 100 + seed);
    const Values gradients = RandomValues(315, 200 + seed);
    const Positions active = topology.Positions();
    const Positions inactive = Complement(active, 315);
    Values inactive_gradients;
    for (const int64_t position : inactive) inactive_gradients.push_back(gradients[position]);
    Values active_gradients;
    for (const int64_t position : active) active_gradients.push_back(gradients[position]);
    const TopologyDiff diff =
        RigLUpdate(topology, values, {inactive, inactive_gradients}, 40, active_gradients).value();

    const Positions kept = KeptPositions(topology, DropSmallestMagnitude(values, 40));
    Positions free = Complement(kept, 315);
    std::sort(free.begin(), free.end(), [&](int64_t a, int64_t b) {
      return std::abs(gradients[a]) > std::abs(gradients[b]);
    });
    std::set<int64_t> expected(kept.begin(), kept.end());
    expected.insert(free.begin(), free.begin() + 40);
    EXPECT_EQ(tensor::Apply(topology, diff)->Positions(),
              Positions(expected.begin(), expected.end()));
    EXPECT_LT(diff.dropped.size(), 40u);  // some were regrown, so both paths are exercised
  }
}

TEST(FedTinyMergeTest, DropAndGrowGiveTheGoldenValues) {
  const Topology topology = Make(1, 10, {0, 1, 2, 4, 5});
  const Values values = {.2f, -.05f, .4f, .01f, -.3f};
  const Positions reported = {3, 7, 8, 9};
  const Values merged = {.15f, -.41f, .18f, .30f};
  const TopologyDiff diff = RigLUpdate(topology, values, {reported, merged}, 2).value();
  EXPECT_THAT(diff.dropped, ElementsAre(1, 3));  // weights 1 and 4
  EXPECT_THAT(diff.grown, ElementsAre(7, 9));
  EXPECT_THAT(tensor::Apply(topology, diff)->Positions(), ElementsAre(0, 2, 5, 7, 9));
  EXPECT_THAT(Carry(topology, values, diff), ElementsAre(.2f, .4f, -.3f, 0, 0));
}

}  // namespace
}  // namespace espalier::sparsity
