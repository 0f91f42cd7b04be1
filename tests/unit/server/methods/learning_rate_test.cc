#include "server/methods/learning_rate.h"

#include <gtest/gtest.h>

namespace espalier::server::methods {
namespace {

TEST(LearningRateTest, ConstantIsOne) {
  EXPECT_EQ(LearningRateFactor(v1::LearningRateSchedule(), 7, 10), 1.0);
}

TEST(LearningRateTest, StepAppliesFromItsMilestonesOn) {
  v1::LearningRateSchedule schedule;
  schedule.set_kind(v1::LearningRateSchedule::KIND_STEP);
  schedule.set_factor(0.5);
  schedule.add_milestones(4);
  schedule.add_milestones(8);
  EXPECT_EQ(LearningRateFactor(schedule, 3, 10), 1.0);
  EXPECT_EQ(LearningRateFactor(schedule, 4, 10), 0.5);
  EXPECT_EQ(LearningRateFactor(schedule, 10, 10), 0.25);
}

TEST(LearningRateTest, CosineAndLinearFallFromOneTowardsTheFinalFactor) {
  v1::LearningRateSchedule schedule;
  schedule.set_final_factor(0.2);
  for (const auto kind :
       {v1::LearningRateSchedule::KIND_COSINE, v1::LearningRateSchedule::KIND_LINEAR}) {
    schedule.set_kind(kind);
    EXPECT_EQ(LearningRateFactor(schedule, 1, 10), 1.0);
    EXPECT_NEAR(LearningRateFactor(schedule, 6, 10), 0.6, 1e-12);
    EXPECT_GT(LearningRateFactor(schedule, 10, 10), 0.2);
    EXPECT_LT(LearningRateFactor(schedule, 10, 10), 0.3);
  }
}

TEST(LearningRateTest, WarmupRisesLinearly) {
  v1::LearningRateSchedule schedule;
  schedule.set_warmup_rounds(3);
  EXPECT_EQ(LearningRateFactor(schedule, 1, 10), 0.25);
  EXPECT_EQ(LearningRateFactor(schedule, 3, 10), 0.75);
  EXPECT_EQ(LearningRateFactor(schedule, 4, 10), 1.0);
}

}  // namespace
}  // namespace espalier::server::methods
