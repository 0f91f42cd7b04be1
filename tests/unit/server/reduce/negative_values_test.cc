// Values that cannot be negative are refused where they are, wherever they stand in a result.
#include <gtest/gtest.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/wire/model_spec/result_sections.h"
#include "espalier/v1/worker.pb.h"
#include "server/reduce/reducer.h"
#include "tests/support/result_layouts.h"

namespace espalier::server::reduce {
namespace {

// The reason that an update of ones with one slightly negative value is refused with; "" if not.
std::string ReasonOfNegative(const v1::Task& task, int64_t negative) {
  const auto topology = test::TopologyWithStatistics();
  const wire::ResultLayout layout = wire::ResultLayoutOf(task, *topology);
  Partial partial;
  partial.participant = "a";
  partial.examples = 1;
  std::vector<float> values(layout.values, 1.0F);
  values.at(negative) = -1e-9F;
  partial.values_count = layout.values;
  partial.values = [&values](const std::function<absl::Status(std::span<const float>)>& sink) {
    return sink(values);
  };
  return base::ReasonOf(MakeReducer(ReducerKind::kMean, topology, layout)->Merge(partial));
}

constexpr char kRefused[] = "VALUE_IMPOSSIBLE";

TEST(NegativeValuesTest, OfRunningVariancesAreRefusedAndMeansAreNot) {
  v1::Task task;
  task.mutable_train();
  EXPECT_EQ(ReasonOfNegative(task, 7), "");
  EXPECT_EQ(ReasonOfNegative(task, 8), kRefused);
  EXPECT_EQ(ReasonOfNegative(task, 9), kRefused);
  v1::Optimizer& optimizer = *task.mutable_train()->mutable_training()->mutable_optimizer();
  optimizer.set_momentum(0.9);
  optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  EXPECT_EQ(ReasonOfNegative(task, 9), kRefused);
  EXPECT_EQ(ReasonOfNegative(task, 18), "") << "momentum has any sign";
  v1::Task calibration;
  calibration.mutable_calibrate();
  EXPECT_EQ(ReasonOfNegative(calibration, 1), "");
  EXPECT_EQ(ReasonOfNegative(calibration, 2), kRefused);
}

// Importance of all positions comes behind the values, whatever their number.
TEST(NegativeValuesTest, AreRefusedInRoundsThatAskForImportance) {
  v1::Task task;
  task.mutable_train()->add_additions()->mutable_importance();
  EXPECT_EQ(ReasonOfNegative(task, 0), "");
  EXPECT_EQ(ReasonOfNegative(task, 9), kRefused);
  EXPECT_EQ(ReasonOfNegative(task, 10), kRefused);
  EXPECT_EQ(ReasonOfNegative(task, 19), kRefused);
  task.mutable_train()->add_additions()->mutable_growth()->set_active(true);
  EXPECT_EQ(ReasonOfNegative(task, 9), kRefused);
  EXPECT_EQ(ReasonOfNegative(task, 10), "") << "gradients have any sign";
  EXPECT_EQ(ReasonOfNegative(task, 20), kRefused);
}

TEST(NegativeValuesTest, OfMeanSquaresOfChannelsAreRefused) {
  v1::Task task;
  task.mutable_channel_statistics();
  task.mutable_model()->mutable_spec()->mutable_input_image()->set_channels(3);
  EXPECT_EQ(ReasonOfNegative(task, 5), "") << "means, and means divided";
  EXPECT_EQ(ReasonOfNegative(task, 6), kRefused);
  EXPECT_EQ(ReasonOfNegative(task, 11), kRefused);
}

}  // namespace
}  // namespace espalier::server::reduce
