#include "server/methods/pruning/sweep/knee.h"

#include <gtest/gtest.h>

#include <vector>

namespace espalier::server::methods {
namespace {

TEST(KneeTest, IsTheLastSparsityBeforeTheSteepFall) {
  const std::vector<SweepPoint> points = {{0, 1.0},   {.2, 1.0}, {.4, .998},
                                          {.6, .995}, {.8, .7},  {.9, .2}};
  EXPECT_EQ(FindKnee(points, .01), .6);
}

TEST(KneeTest, NothingThatLostTooMuchIsAKnee) {
  const std::vector<SweepPoint> points = {{0, 1.0}, {.2, .9}, {.4, .5}, {.6, .1}};
  EXPECT_EQ(FindKnee(points, .01), std::nullopt);
}

TEST(KneeTest, AStraightLineHasNone) {
  const std::vector<SweepPoint> points = {{0, 1.0}, {.2, .998}, {.4, .996}, {.6, .994}};
  EXPECT_EQ(FindKnee(points, .01), std::nullopt);
}

TEST(KneeTest, PerformanceThatRisesFirstHasItsKneeWhereItFalls) {
  const std::vector<SweepPoint> points = {{0, .9}, {.3, .92}, {.6, .91}, {.9, .3}};
  EXPECT_EQ(FindKnee(points, .01), .6);
}

}  // namespace
}  // namespace espalier::server::methods
