#include "common/wire/model_spec/frozen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

#include "common/wire/model_spec/result_sections.h"

namespace espalier::wire {
namespace {

using testing::ElementsAre;

// A weight that is sparse, its bias, and a batch norm of two: 3 + 2 + 2 + 2 + 2 + 2 = 13 values.
tensor::ModelTopology Model() {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"layers.0.weight", {2, 4}, 2, 4, /*sparsifiable=*/true});
  for (const char* name : {"layers.0.bias", "layers.1.weight", "layers.1.bias"}) {
    layout->push_back({name, {2}, 2, 1});
  }
  for (const char* name : {"layers.1.running_mean", "layers.1.running_var"}) {
    layout->push_back({name, {2}, 2, 1, false, /*buffer=*/true});
  }
  const std::vector<int64_t> positions = {0, 3, 5};
  auto sparse = std::make_shared<const tensor::Topology>(
      tensor::Topology::FromPositions(2, 4, positions).value());
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(6);
  topologies[0] = sparse;
  return tensor::ModelTopology::Create(layout, topologies).value();
}

v1::Training Freezing(std::initializer_list<const char*> patterns) {
  v1::Training training;
  for (const char* pattern : patterns) training.add_frozen(pattern);
  return training;
}

std::vector<float> Numbers(int count) {
  std::vector<float> numbers;
  for (int i = 0; i < count; ++i) numbers.push_back(static_cast<float>(i));
  return numbers;
}

TEST(FrozenTensorsTest, PatternsAreThoseOfFileNamesAndLeaveRunningStatisticsOut) {
  const auto frozen = [](std::initializer_list<const char*> patterns) {
    return FrozenTensors(Freezing(patterns), Model().layout());
  };
  EXPECT_THAT(frozen({}), testing::Each(false));
  EXPECT_THAT(frozen({"layers.0.*"}), ElementsAre(true, true, false, false, false, false));
  EXPECT_THAT(frozen({"layers.1.*"}), ElementsAre(false, false, true, true, false, false));
  EXPECT_THAT(frozen({"layers.[1-9].bias", "layers.?.weight"}),
              ElementsAre(true, false, true, true, false, false));
  EXPECT_THAT(frozen({"*"}), ElementsAre(true, true, true, true, false, false));
  EXPECT_THAT(frozen({"layers"}), testing::Each(false)) << "a pattern is a whole name";
}

TEST(LearnedPartTest, IsTheWholeModelWithoutPatterns) {
  const LearnedPart part(Freezing({}), Model());
  EXPECT_TRUE(part.is_whole());
  EXPECT_EQ(part.stored(), 13);
  EXPECT_EQ(part.Of(Numbers(13)), Numbers(13));
}

TEST(LearnedPartTest, TakesEachSetApartAndPutsItTogetherAgain) {
  const LearnedPart part(Freezing({"layers.0.weight", "layers.1.weight"}), Model());
  EXPECT_FALSE(part.is_whole());
  EXPECT_EQ(part.stored(), 8);
  EXPECT_THAT(part.Of(Numbers(13)), ElementsAre(3, 4, 7, 8, 9, 10, 11, 12));
  const std::vector<float> both = part.Of(Numbers(26));
  EXPECT_THAT(both, ElementsAre(3, 4, 7, 8, 9, 10, 11, 12, 16, 17, 20, 21, 22, 23, 24, 25));
  EXPECT_EQ(part.In(both, Numbers(26)), Numbers(26));
  EXPECT_THAT(part.In(std::vector<float>(8, -1), Numbers(13)),
              ElementsAre(0, 1, 2, -1, -1, 5, 6, -1, -1, -1, -1, -1, -1));
}

TEST(LearnedPartTest, ResultsHaveItAloneAndSayWhichNumbersAreWeights) {
  v1::Task task;
  *task.mutable_train()->mutable_training() = Freezing({"layers.0.weight", "layers.1.weight"});
  v1::Optimizer& optimizer = *task.mutable_train()->mutable_training()->mutable_optimizer();
  optimizer.set_kind(v1::Optimizer::KIND_ADAM);
  optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  const ResultLayout layout = ResultLayoutOf(task, Model());
  EXPECT_EQ(layout.values, 8 + 2 * 8);
  const auto ranges = [](const std::vector<ResultLayout::Range>& found) {
    std::vector<std::pair<int64_t, int64_t>> pairs;
    for (const auto& [begin, end] : found) pairs.emplace_back(begin, end);
    return pairs;
  };
  EXPECT_THAT(ranges(layout.weights), ElementsAre(std::pair(0, 2), std::pair(2, 4)));
  // The running variance, and second moments.
  EXPECT_THAT(ranges(layout.not_negative), ElementsAre(std::pair(6, 8), std::pair(16, 24)));
}

}  // namespace
}  // namespace espalier::wire
