// Rows that no batch touches cost nothing and change nothing.
#include "worker/recommender/row_parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/recommender/fixtures.h"

namespace espalier::worker::recommender {
namespace {

using ::testing::ElementsAre;

TEST(RowTensorTest, ExpandsAndGathersSparseRows) {
  const auto topology =
      tensor::Topology::FromPositions(2, 4, std::vector<int64_t>{1, 3, 4}).value();
  std::vector<float> values = {1, 2, 3};
  const RowTensor rows(2, 4, &topology, values.data());
  std::vector<float> dense(4, 9.0F);
  rows.Expand(0, dense.data());
  EXPECT_THAT(dense, ElementsAre(0, 1, 0, 2));
  std::vector<float> stored(2);
  rows.Gather(0, std::vector<float>{5, 6, 7, 8}.data(), stored.data());
  EXPECT_THAT(stored, ElementsAre(6, 8));
}

TEST(RowOptimizerTest, RowsWithoutGradientKeepValueAndSlots) {
  std::vector<float> values(200 * 2, 1.0F);
  const RowTensor rows(200, 2, nullptr, values.data());
  RowOptimizer optimizer(AdamSpec(), rows);
  std::vector<float> gradient(64 * 2, 0.0F);
  gradient[2 * 5] = 1;  // row 64 + 5
  optimizer.Update(64, 64, gradient.data(), 0.1, 1);
  EXPECT_EQ(optimizer.RowsWithSlots(), 64);
  for (int64_t i = 0; i < 400; ++i) {
    if (i / 2 != 69) {
      EXPECT_EQ(values[i], 1.0F) << i;
    }
  }
  // The first step of Adam is the learning rate.
  EXPECT_NEAR(values[2 * 69], 0.9, 1e-6);
  const float touched_once = values[2 * 69];
  // Its moments neither move the row nor decay while other rows are touched.
  gradient[2 * 5] = 0;
  gradient[2 * 6] = 1;
  optimizer.Update(64, 64, gradient.data(), 0.1, 2);
  EXPECT_EQ(values[2 * 69], touched_once);
  std::vector<float> state(800);
  optimizer.Store(state, 0, 400);
  EXPECT_FLOAT_EQ(state[2 * 69], 0.1F);
  EXPECT_NEAR(state[400 + 2 * 69], 0.001, 1e-7);
}

TEST(RowOptimizerTest, AFreshlyGrownWeightMovesByThreeLearningRatesAtMost) {
  std::vector<float> values = {0.0F};
  const RowTensor rows(1, 1, nullptr, values.data());
  RowOptimizer optimizer(AdamSpec(), rows);
  const float gradient = 0.5F;
  optimizer.Update(0, 1, &gradient, 0.01, 1'000'000);
  EXPECT_NEAR(values[0], -0.01 * 0.1 / std::sqrt(0.001), 1e-5);
}

TEST(RowOptimizerTest, StateIsLoadedAsItWasStored) {
  std::vector<float> values(300, 1.0F);
  const RowTensor rows(100, 3, nullptr, values.data());
  RowOptimizer optimizer(AdamSpec(), rows);
  const std::vector<float> gradient(3, 0.5F);
  optimizer.Update(70, 1, gradient.data(), 0.1, 1);
  std::vector<float> state(600);
  optimizer.Store(state, 0, 300);
  RowOptimizer other(AdamSpec(), rows);
  other.Load(state, 0, 300);
  EXPECT_EQ(other.RowsWithSlots(), 36);  // rows 64 to 99
  std::vector<float> again(600);
  other.Store(again, 0, 300);
  EXPECT_EQ(state, again);
}

class LazyRowsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(LazyRowsTest, TrainingTouchesTheBatchsRowsOnly) {
  // 1,000 users and items of which only the first 40 users and 50 items interact.
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> columns;
  for (int32_t user = 0; user < 1000; ++user) {
    for (int32_t k = 0; user < 40 && k < 3; ++k) columns.push_back((user + 5 * k) % 10 + 10 * k);
    offsets.push_back(static_cast<int64_t>(columns.size()));
  }
  const auto train =
      std::make_shared<const Interactions>(Interactions::Create(1000, offsets, columns).value());
  const auto spec = ParseSpec("users: 1000 items: 1000 " + GetParam());
  const auto topology = MakeTopology(spec, 0.5);
  const auto model = MakeModel(spec, topology, train);
  const std::vector<float> before(model->values().begin(), model->values().end());
  for (int64_t index = 0; index < 5; ++index) {
    model->Train({.index = index, .batch_size = 8, .learning_rate = 0.1, .seed = 1});
  }
  int tables = 0;
  for (size_t t = 0; t < topology->num_tensors(); ++t) {
    const tensor::TensorSpec& tensor = topology->layout()[t];
    const bool users = tensor.name.find("user_embeddings") != std::string::npos;
    if (!users && tensor.name != "encoder.items") continue;
    ++tables;
    EXPECT_EQ(model->RowsWithSlots(t), 64) << tensor.name;
    // Rows from 64 on are nobody's.
    const int64_t first =
        topology->is_sparse(t) ? topology->topology(t).row_offsets()[64] : 64 * tensor.cols;
    for (int64_t k = first; k < topology->stored(t); ++k) {
      ASSERT_EQ(model->values()[topology->offset(t) + k], before[topology->offset(t) + k])
          << tensor.name;
    }
  }
  EXPECT_GE(tables, 1);
}

INSTANTIATE_TEST_SUITE_P(Models, LazyRowsTest,
                         ::testing::Values("lightgcn { dimensions: 8 }", "neumf { dimensions: 8 }",
                                           "multvae { hidden: 20 latent: 4 }",
                                           "autoint { dimensions: 8 units: 16 }"),
                         [](const auto& info) { return "Case" + std::to_string(info.index); });

}  // namespace
}  // namespace espalier::worker::recommender
