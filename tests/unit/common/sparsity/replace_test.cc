#include "common/sparsity/replace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"

namespace espalier::sparsity {
namespace {

using ::testing::ElementsAre;
using Positions = std::vector<int64_t>;
using Values = std::vector<float>;

// 2×4 with .9 .1 −.5 .05 at 0, 2, 5 and 7.
struct Example {
  tensor::Topology topology = tensor::Topology::FromPositions(2, 4, Positions{0, 2, 5, 7}).value();
  Values keys = {.9f, .1f, -.5f, .05f};
  Values active = {.2f, .01f, .1f, .02f};
  Positions positions = {1, 3, 4, 6};
  Values gradients = {.7f, -.9f, .3f, -.6f};

  tensor::TopologyDiff Replace() const {
    return ReplaceByGradient(topology, keys, {1, 3}, {positions, gradients}, active).value();
  }
};

TEST(ReplaceTest, GrowsTheLargestGradients) {
  const tensor::TopologyDiff diff = Example().Replace();
  EXPECT_THAT(diff.dropped, ElementsAre(1, 3));
  EXPECT_THAT(diff.grown, ElementsAre(1, 3));
}

TEST(ReplaceTest, WhatIsDroppedCompetes) {
  Example example;
  example.active[1] = -.8f;
  const tensor::TopologyDiff diff = example.Replace();
  EXPECT_THAT(diff.dropped, ElementsAre(1, 3));
  EXPECT_THAT(diff.grown, ElementsAre(2, 3));
  EXPECT_TRUE(tensor::Apply(example.topology, diff).ok());
}

TEST(ReplaceTest, WhatStaysDoesNotCompete) {
  Example example;
  example.active[0] = 100;
  EXPECT_THAT(example.Replace().grown, ElementsAre(1, 3));
}

TEST(ReplaceTest, EqualGradientsGoToTheLowerPosition) {
  Example example;
  example.gradients = {0, 0, 0, 0};
  example.active = {0, 0, 0, 0};
  EXPECT_THAT(example.Replace().grown, ElementsAre(1, 2));
}

TEST(ReplaceTest, FewerCandidatesDropFewerOfTheWeakest) {
  Example example;
  example.positions = {6};
  example.gradients = {.1f};
  const auto diff = ReplaceByGradient(example.topology, example.keys, {1, 3},
                                      {example.positions, example.gradients}, {});
  ASSERT_TRUE(diff.ok());
  EXPECT_THAT(diff->dropped, ElementsAre(3));
  EXPECT_THAT(diff->grown, ElementsAre(6));
}

TEST(ReplaceTest, RefusesActiveCandidatesAndWrongSizes) {
  Example example;
  example.positions[0] = 0;
  EXPECT_EQ(base::ReasonOf(ReplaceByGradient(example.topology, example.keys, {1},
                                             {example.positions, example.gradients}, {})
                               .status()),
            "CANDIDATE_ACTIVE");
  EXPECT_EQ(base::ReasonOf(ReplaceByGradient(example.topology, Values{1, 2}, {1}, {}, {}).status()),
            "SHAPE_MISMATCH");
}

TEST(ReplaceTest, CeilingIsOfTheDecimalFraction) {
  EXPECT_EQ(CeilingOf(0.3, 10), 3);
  EXPECT_EQ(CeilingOf(0.1, 3 * 10), 3);
  EXPECT_EQ(CeilingOf(0.301, 10), 4);
  EXPECT_EQ(CeilingOf(0, 10), 0);
  EXPECT_EQ(CeilingOf(1, 10), 10);
  EXPECT_EQ(CeilingOf(0.005, 10), 1);
}

}  // namespace
}  // namespace espalier::sparsity
