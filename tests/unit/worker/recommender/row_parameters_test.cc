// The optimizer acts on every stored value in every step; with lazy rows, rows that no batch
// touches cost nothing and change nothing.
#include "worker/recommender/row_parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/recommender/fixtures.h"
#include "worker/engine/optimizer.h"

namespace espalier::worker::recommender {
namespace {

// Six steps on a table of 4 × 3 ones at learning rate 0.05. Step s ≥ 0 reaches row s mod 3 only,
// with gradient 0.25 (row + 1) − 0.3 column + 0.1 s, and step 3 reaches none.
std::vector<float> SixSteps(const engine::OptimizerSpec& spec) {
  std::vector<float> values(12, 1.0F);
  const RowTensor rows(4, 3, nullptr, values.data());
  RowOptimizer optimizer(spec, rows);
  for (int step = 0; step < 6; ++step) {
    const int row = step % 3;
    std::vector<float> gradient;
    for (int c = 0; c < 3; ++c) {
      gradient.push_back(static_cast<float>(0.25 * (row + 1) - 0.3 * c + 0.1 * step));
    }
    if (step != 3) optimizer.Update(row, 1, gradient.data(), 0.05, step + 1);
    optimizer.EndStep(0.05, step + 1, 1);
  }
  return values;
}

TEST(RowOptimizerTest, StepsAreThoseOfPyTorchsDenseOptimizers) {
  const auto near = [](const std::vector<double>& expected) {
    return ::testing::Pointwise(::testing::DoubleNear(2e-6), expected);
  };
  engine::OptimizerSpec adam = AdamSpec();
  // torch.optim.Adam(lr=.05) of PyTorch 2.15, float32.
  EXPECT_THAT(SixSteps(adam), near({0.8360007, 1.1639991, 1.1639991, 0.8476563, 0.8484783,
                                    0.9492185, 0.8874633, 0.8874735, 0.8877620, 1, 1, 1}));
  // The same with weight_decay=.1: also of the row that has no gradient in any step.
  adam.weight_decay = 0.1;
  EXPECT_THAT(SixSteps(adam),
              near({0.7569675, 0.7034962, 1.0183837, 0.7665353, 0.7497571, 0.7169192, 0.7653403,
                    0.7575550, 0.7421903, 0.7025659, 0.7025659, 0.7025659}));
  // torch.optim.AdamW(lr=.05, weight_decay=.1).
  adam.decoupled_weight_decay = true;
  EXPECT_THAT(SixSteps(adam),
              near({0.8089637, 1.1317813, 1.1317813, 0.8196003, 0.8204201, 0.9197273, 0.8586841,
                    0.8586943, 0.8589828, 0.9703725, 0.9703725, 0.9703725}));
  // torch.optim.SGD(lr=.05, momentum=.9, weight_decay=.1, nesterov=True).
  EXPECT_THAT(SixSteps({.momentum = 0.9, .nesterov = true, .weight_decay = 0.1}),
              near({0.8307130, 0.9051449, 0.9795766, 0.6361052, 0.7442327, 0.8523603, 0.5842854,
                    0.6726921, 0.7610986, 0.8927396, 0.8927396, 0.8927396}));
}

TEST(RowOptimizerTest, EveryStoredValueTakesEveryStepForAnyThreadCount) {
  // 10,000 sparse rows in groups of 64, some rows empty; a dense optimizer of the same values.
  constexpr int64_t kRows = 10'000;
  constexpr double kRate = 1.0 / 128;
  std::vector<int64_t> positions;
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t k = 0; k < row % 4; ++k) positions.push_back(row * 8 + 2 * k);
  }
  const auto topology = tensor::Topology::FromPositions(kRows, 8, positions).value();
  const std::vector<float> first = RandomValues(topology.nnz());
  engine::OptimizerSpec spec = AdamSpec();
  spec.weight_decay = 0.01;
  std::vector<float> values[] = {first, first};
  std::vector<float> dense = first;
  engine::Optimizer reference(spec, topology.nnz());
  const RowTensor rows[] = {{kRows, 8, &topology, values[0].data()},
                            {kRows, 8, &topology, values[1].data()}};
  RowOptimizer one(spec, rows[0]);
  RowOptimizer three(spec, rows[1]);
  for (int64_t step = 1; step <= 20; ++step) {
    std::vector<float> gradient(topology.nnz(), 0.0F);
    for (int64_t row = step * 7 % 30; row < kRows; row += 30) {
      const std::vector<float> of_row = RandomValues(rows[0].Row(row).size(), step * kRows + row);
      std::ranges::copy(of_row, gradient.begin() + rows[0].begin(row));
      one.Update(row, 1, of_row.data(), kRate, step);
      three.Update(row, 1, of_row.data(), kRate, step);
    }
    one.EndStep(kRate, step, 1);
    three.EndStep(kRate, step, 3);
    reference.BeginStep(kRate);
    reference.Update(gradient, 0, dense.data());
  }
  EXPECT_EQ(values[0], dense);
  EXPECT_EQ(values[1], dense);
}

TEST(RowOptimizerTest, GroupsThatNoGradientReachedCostNothingWithoutWeightDecay) {
  std::vector<float> values(200 * 2, 1.0F);
  const RowTensor rows(200, 2, nullptr, values.data());
  RowOptimizer optimizer(AdamSpec(), rows);
  std::vector<float> gradient(64 * 2, 0.0F);
  optimizer.Update(0, 64, gradient.data(), 0.1, 1);
  gradient[2 * 5] = 1;
  optimizer.Update(64, 64, gradient.data(), 0.1, 1);
  optimizer.EndStep(0.1, 1, 1);
  EXPECT_EQ(optimizer.RowsWithSlots(), 64);
}

TEST(RowOptimizerTest, MomentsAtRestBecomeZeroAndNotSubnormal) {
  // Subnormal numbers make some processors a hundred times slower, and 0.9 times the smallest of
  // them rounds to itself.
  std::vector<float> value = {1.0F};
  const RowTensor rows(1, 1, nullptr, value.data());
  RowOptimizer optimizer(AdamSpec(), rows);
  const float gradient = 1e-3F;
  optimizer.Update(0, 1, &gradient, 0.01, 1);
  optimizer.EndStep(0.01, 1, 1);
  for (int64_t step = 2; step <= 2000; ++step) optimizer.EndStep(0.01, step, 1);
  std::vector<float> state(2);
  optimizer.Store(state, 0, 1);
  EXPECT_EQ(state[0], 0.0F);
  EXPECT_GT(state[1], 0.0F);
}

TEST(RowOptimizerTest, LazyRowsWithoutGradientKeepValueAndSlots) {
  std::vector<float> values(200 * 2, 1.0F);
  const RowTensor rows(200, 2, nullptr, values.data());
  engine::OptimizerSpec spec = AdamSpec();
  spec.lazy_rows = true;
  RowOptimizer optimizer(spec, rows);
  std::vector<float> gradient(64 * 2, 0.0F);
  gradient[2 * 5] = 1;  // row 64 + 5
  optimizer.Update(64, 64, gradient.data(), 0.1, 1);
  optimizer.EndStep(0.1, 1, 1);
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
  optimizer.EndStep(0.1, 2, 1);
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

class RowsTest : public ::testing::TestWithParam<std::string> {};

TEST_P(RowsTest, OnlyLazyRowsRestWhereNoBatchReaches) {
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
  engine::OptimizerSpec decays = AdamSpec();
  decays.weight_decay = 0.01;
  const auto decaying = MakeModel(spec, topology, train, 1, decays);
  decays.lazy_rows = true;
  const auto lazy = MakeModel(spec, topology, train, 1, decays);
  for (RecommenderModel* of : {decaying.get(), lazy.get()}) {
    of->Train({.index = 0, .batch_size = 8, .learning_rate = 0.1, .seed = 1});
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
      const int64_t at = topology->offset(t) + k;
      ASSERT_EQ(model->values()[at], before[at]) << tensor.name;
      ASSERT_EQ(lazy->values()[at], before[at]) << tensor.name;
      if (std::fabs(before[at]) > 1e-3) {
        ASSERT_LT(std::fabs(decaying->values()[at] - before[at]), 0.11);
        ASSERT_NE(decaying->values()[at], before[at]) << tensor.name;
      }
    }
  }
  EXPECT_GE(tables, 1);
}

INSTANTIATE_TEST_SUITE_P(Models, RowsTest,
                         ::testing::Values("lightgcn { dimensions: 8 }", "neumf { dimensions: 8 }",
                                           "multvae { hidden: 20 latent: 4 }",
                                           "autoint { dimensions: 8 units: 16 }"),
                         [](const auto& info) { return "Case" + std::to_string(info.index); });

}  // namespace
}  // namespace espalier::worker::recommender
