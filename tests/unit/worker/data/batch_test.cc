#include "worker/data/batch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "common/base/rng.h"

namespace espalier::worker::data {
namespace {

constexpr float kUntouched = -12345.0f;

// `rows` × `features` random bytes, or values that are not bytes.
Dataset MakeDataset(int64_t rows, int64_t features, bool bytes) {
  base::Rng rng(base::StreamKey(3, "batch_test", {static_cast<uint64_t>(features)}));
  DatasetBuilder builder;
  EXPECT_TRUE(builder.SetFeatures(features, "made").ok());
  std::vector<float> row(static_cast<size_t>(features));
  for (int64_t i = 0; i < rows; ++i) {
    for (float& value : row) value = static_cast<float>(rng.Below(256)) + (bytes ? 0.0f : 0.25f);
    EXPECT_TRUE(builder.AppendRow(row).ok());
    builder.AppendLabel(static_cast<int32_t>(i % 7));
  }
  builder.EndTraining();
  return builder.Finish("made", "csv", 0);
}

float RawValue(const Dataset& dataset, int32_t row, int64_t feature) {
  return dataset.is_bytes() ? dataset.ByteRow(row)[feature] : dataset.FloatRow(row)[feature];
}

struct Case {
  int64_t features;
  int64_t size;
  int64_t stride;
};

class BatchTest : public ::testing::TestWithParam<std::tuple<bool, Case>> {};

TEST_P(BatchTest, IsTheNormalisedTransposeWithZeroPadding) {
  const auto& [bytes, shape] = GetParam();
  const Dataset dataset = MakeDataset(40, shape.features, bytes);
  ASSERT_EQ(dataset.is_bytes(), bytes);
  base::Rng rng(1);
  std::vector<int32_t> indices;
  for (int64_t i = 0; i < shape.size; ++i) indices.push_back(static_cast<int32_t>(rng.Below(40)));
  const Normalization normalization{255.0, 0.1307, 0.3081};
  const auto multiplier = static_cast<float>(1.0 / (255.0 * 0.3081));
  const auto offset = static_cast<float>(-0.1307 / 0.3081);

  const auto area = static_cast<size_t>(shape.features * shape.stride);
  std::vector<float> out(area + 1, kUntouched);
  std::vector<int32_t> labels(static_cast<size_t>(shape.size) + 1, -1);
  AssembleBatch(dataset, indices, normalization, out.data(), shape.stride, labels.data());

  for (int64_t f = 0; f < shape.features; ++f) {
    for (int64_t c = 0; c < shape.stride; ++c) {
      const float found = out[static_cast<size_t>(f * shape.stride + c)];
      if (c >= shape.size) {
        ASSERT_EQ(found, 0.0f) << f << " " << c;
        continue;
      }
      const float raw = RawValue(dataset, indices[static_cast<size_t>(c)], f);
      const float scaled = raw * multiplier;
      ASSERT_EQ(found, scaled + offset) << f << " " << c;  // the same bits on every path
      ASSERT_NEAR(found, (raw / 255.0 - 0.1307) / 0.3081, 2e-6);
    }
  }
  EXPECT_EQ(out[area], kUntouched);
  for (int64_t c = 0; c < shape.size; ++c) {
    EXPECT_EQ(labels[static_cast<size_t>(c)], indices[static_cast<size_t>(c)] % 7);
  }
  EXPECT_EQ(labels[static_cast<size_t>(shape.size)], -1);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes, BatchTest,
    ::testing::Combine(::testing::Bool(),
                       ::testing::Values(Case{1, 1, 1}, Case{64, 16, 16}, Case{64, 32, 48},
                                         Case{33, 100, 112}, Case{15, 17, 17}, Case{16, 3, 40},
                                         Case{100, 20, 23}, Case{784, 0, 16})));

TEST(BatchTest, DefaultsLeaveValuesAsTheyAre) {
  const Dataset dataset = MakeDataset(16, 16, true);
  std::vector<int32_t> indices(16);
  for (int32_t i = 0; i < 16; ++i) indices[static_cast<size_t>(i)] = i;
  std::vector<float> out(256);
  std::vector<int32_t> labels(16);
  AssembleBatch(dataset, indices, NormalizationOf(v1::DataSpec()), out.data(), 16, labels.data());
  for (int32_t c = 0; c < 16; ++c) {
    for (int f = 0; f < 16; ++f)
      EXPECT_EQ(out[static_cast<size_t>(f * 16 + c)], dataset.ByteRow(c)[f]);
  }
}

}  // namespace
}  // namespace espalier::worker::data
