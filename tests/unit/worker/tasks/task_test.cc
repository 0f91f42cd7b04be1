#include "worker/tasks/task.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace espalier::worker::tasks {
namespace {

// Values behind a section whose bytes are no multiple of four, more than are looked at in a piece.
Partial WithValues(const std::vector<float>& values) {
  Partial partial;
  AddSection(v1::SECTION_KIND_DIFFERENCES, v1::SECTION_TYPE_INT8, 3, "\xff\xff\xff", partial);
  AddSection(v1::SECTION_KIND_OPTIMIZER_STATE, values, partial);
  return partial;
}

TEST(CheckFiniteTest, EveryValueIsLookedAt) {
  std::vector<float> values(10'000, std::numeric_limits<float>::max());
  EXPECT_TRUE(CheckFinite(WithValues(values)).ok());
  for (const size_t place : {size_t{0}, size_t{4095}, size_t{4096}, values.size() - 1}) {
    for (const float bad : {std::nanf(""), -std::numeric_limits<float>::infinity()}) {
      std::vector<float> changed = values;
      changed[place] = bad;
      EXPECT_EQ(base::ReasonOf(CheckFinite(WithValues(changed))), "NON_FINITE") << place;
    }
  }
}

TEST(CheckFiniteTest, BytesThatAreNoFloatsAreNot) {
  Partial partial;
  AddSection(v1::SECTION_KIND_COUNTS, v1::SECTION_TYPE_I64, 1, std::string(8, '\xff'), partial);
  EXPECT_TRUE(CheckFinite(partial).ok());
}

TEST(CheckFiniteTest, WhatTheHeaderSaysIsLookedAt) {
  Partial partial;
  EXPECT_TRUE(CheckFinite(partial).ok());
  partial.header.add_metric_sums()->set_value(std::numeric_limits<double>::infinity());
  EXPECT_EQ(base::ReasonOf(CheckFinite(partial)), "NON_FINITE");
  partial.header.clear_metric_sums();
  partial.header.set_loss_sum(std::nan(""));
  EXPECT_EQ(base::ReasonOf(CheckFinite(partial)), "NON_FINITE");
  partial.header.clear_loss_sum();
  partial.header.add_recommended()->set_score(std::nanf(""));
  EXPECT_EQ(base::ReasonOf(CheckFinite(partial)), "NON_FINITE");
}

TEST(AddScoresTest, ScoresThatAreNotFiniteAreNotSent) {
  Partial partial;
  std::vector<sparsity::ScoredPositions> lists(1);
  lists[0].positions = {1, 2};
  lists[0].values = {1.0F, std::nanf("")};
  EXPECT_EQ(base::ReasonOf(AddScores(lists, {{.name = "w", .shape = {4, 4}}}, partial)),
            "NON_FINITE");
}

}  // namespace
}  // namespace espalier::worker::tasks
