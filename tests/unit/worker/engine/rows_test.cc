// Rows of dense and sparse tables: products with them, weighted sums of them, and their gradients.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/unit/worker/engine/fixtures.h"
#include "worker/engine/onednn/onednn_backend.h"
#include "worker/engine/rows/row_arithmetic.h"
#include "worker/engine/rows/row_bags.h"

namespace espalier::worker::engine {
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
  EXPECT_EQ(rows.Product(0, std::vector<float>{5, 6, 7, 8}.data()), 22);
}

TEST(RowArithmeticTest, DotsHaveAnyLength) {
  for (const int64_t size : {1, 15, 16, 17, 50}) {
    const auto a = RandomFloats(size, 1);
    const auto b = RandomFloats(size, 2);
    double expected = 0;
    for (int64_t i = 0; i < size; ++i) expected += static_cast<double>(a[i]) * b[i];
    EXPECT_NEAR(Dot(a.data(), b.data(), size), expected, 1e-5) << size;
  }
}

constexpr int64_t kRows = 30;
constexpr int64_t kCols = 21;
constexpr int64_t kExamples = 37;

// A table of kRows × kCols, dense at density 1, and what it is as a dense matrix.
class RowsTest : public ::testing::TestWithParam<double> {
 protected:
  RowsTest() {
    if (GetParam() < 1) topology_ = RandomTopology(kRows, kCols, GetParam(), 3);
    values_ = RandomFloats(topology_ == nullptr ? kRows * kCols : topology_->nnz(), 4);
    for (int64_t row = 0; row < kRows; ++row) table().Expand(row, &dense_[row * kCols]);
  }
  RowTensor table() { return {kRows, kCols, topology_.get(), values_.data()}; }

  std::shared_ptr<const tensor::Topology> topology_;
  std::vector<float> values_;
  std::vector<float> dense_ = std::vector<float>(kRows * kCols);
};

// Up to 4 rows for each example, some twice, some with weight 0, and one example without any.
struct Entry {
  int32_t row;
  float weight;
};
std::vector<std::vector<Entry>> SomeEntries() {
  base::Rng rng(5);
  std::vector<std::vector<Entry>> entries(kExamples);
  for (size_t n = 1; n < entries.size(); ++n) {
    for (size_t k = 0; k < 1 + n % 4; ++k) {
      const float weight = k == 2 ? 0 : static_cast<float>(rng.Normal());
      entries[n].push_back({static_cast<int32_t>(rng.Below(kRows)), weight});
    }
  }
  return entries;
}

RowBags BagsOf(const std::vector<std::vector<Entry>>& entries) {
  RowBags bags;
  for (const auto& example : entries) {
    std::vector<int32_t> rows;
    std::vector<float> weights;
    for (const Entry& entry : example) {
      rows.push_back(entry.row);
      weights.push_back(entry.weight);
    }
    bags.Add(rows, weights);
  }
  return bags;
}

TEST_P(RowsTest, BagsAreWeightedSumsAsColumns) {
  const auto entries = SomeEntries();
  const RowBags bags = BagsOf(entries);
  ASSERT_EQ(bags.size(), kExamples);
  constexpr int64_t kFirst = 3;
  constexpr int64_t kStride = 80;
  const Extent extent = {kExamples - kFirst, 64};
  std::vector<float> out(kCols * kStride, 9.0F);
  bags.Forward(table(), kFirst, extent, kStride, out.data(), 1);
  for (int64_t c = 0; c < kCols; ++c) {
    for (int64_t n = 0; n < extent.width; ++n) {
      double expected = 0;
      if (n < extent.size) {
        for (const Entry& entry : entries[kFirst + n]) {
          expected += static_cast<double>(entry.weight) * dense_[entry.row * kCols + c];
        }
      }
      ASSERT_NEAR(out[c * kStride + n], expected, 1e-5) << c << " " << n;
    }
    EXPECT_EQ(out[c * kStride + extent.width], 9.0F);
  }
  std::vector<float> three(kCols * kStride, 9.0F);
  bags.Forward(table(), kFirst, extent, kStride, three.data(), 3);
  EXPECT_EQ(out, three);
}

TEST_P(RowsTest, ProductsWithARangeOfRowsAreThoseOfTheMatrix) {
  constexpr int64_t kStride = 112;
  constexpr int64_t kWidth = 96;
  constexpr RowRange kRange = {7, 25};
  const auto backend = MakeOneDnnBackend(1);
  const auto x = RandomFloats(kCols * kStride, 6);
  std::vector<float> y((kRange.end - kRange.begin) * kStride);
  MultiplyRows(*backend, table(), kRange, x.data(), kStride, kWidth, y.data());
  for (int64_t row = kRange.begin; row < kRange.end; ++row) {
    for (int64_t n = 0; n < kWidth; ++n) {
      double expected = 0;
      for (int64_t c = 0; c < kCols; ++c) {
        expected += static_cast<double>(dense_[row * kCols + c]) * x[c * kStride + n];
      }
      ASSERT_NEAR(y[(row - kRange.begin) * kStride + n], expected, 1e-5);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(DenseAndSparse, RowsTest, ::testing::Values(1, 0.3));

TEST(RowBagsTest, GradientsOfRowsComeOnceEachAndInOrder) {
  const auto entries = SomeEntries();
  const auto of_examples = RandomFloats(kExamples * kCols, 7);
  std::map<int32_t, std::vector<double>> expected;
  for (int64_t n = 0; n < kExamples; ++n) {
    for (const Entry& entry : entries[n]) {
      if (entry.weight == 0) continue;
      auto& sum = expected.try_emplace(entry.row, kCols).first->second;
      for (int64_t c = 0; c < kCols; ++c) {
        sum[c] += static_cast<double>(entry.weight) * of_examples[n * kCols + c];
      }
    }
  }
  auto next = expected.begin();
  RowGradients(BagsOf(entries).ByRow(), of_examples.data(), kCols,
               [&](int32_t row, const float* gradient) {
                 ASSERT_NE(next, expected.end());
                 ASSERT_EQ(row, next->first);
                 for (int64_t c = 0; c < kCols; ++c) {
                   ASSERT_NEAR(gradient[c], next->second[c], 1e-5);
                 }
                 ++next;
               });
  EXPECT_EQ(next, expected.end());
}

TEST(RowBagsTest, OneRowForEachExampleHasWeightOne) {
  const std::vector<int32_t> rows = {4, 4, 2};
  const RowBags::Uses uses = RowBags(rows).ByRow();
  EXPECT_THAT(uses.rows, ElementsAre(2, 4));
  EXPECT_THAT(uses.begin, ElementsAre(0, 1, 3));
  EXPECT_THAT(uses.examples, ElementsAre(2, 0, 1));
  EXPECT_THAT(uses.weights, ElementsAre(1, 1, 1));
}

TEST(TransposeTest, IsOfTheFirstColumns) {
  const auto from = RandomFloats(5 * 48, 8);
  std::vector<float> to(19 * 5);
  Transpose(from.data(), 5, 48, 19, to.data());
  for (int64_t n = 0; n < 19; ++n) {
    for (int64_t r = 0; r < 5; ++r) ASSERT_EQ(to[n * 5 + r], from[r * 48 + n]);
  }
}

}  // namespace
}  // namespace espalier::worker::engine
