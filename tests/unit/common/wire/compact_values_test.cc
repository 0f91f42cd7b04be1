#include "common/wire/compact_values.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"

namespace espalier::wire {
namespace {

constexpr v1::SectionType kTypes[] = {v1::SECTION_TYPE_BF16, v1::SECTION_TYPE_INT8};

// 600 weights, 4 running statistics, 3 weights.
tensor::ModelTopology SomeTopology() {
  auto layout = std::make_shared<const tensor::ModelLayout>(tensor::ModelLayout{
      {"a", {20, 30}, 20, 30, true}, {"mean", {4}, 4, 1, false, true}, {"b", {3}, 3, 1, false}});
  return tensor::ModelTopology::Create(layout, {nullptr, nullptr, nullptr}).value();
}

std::vector<float> SomeValues(uint64_t key, double scale = 1) {
  base::Rng rng(key);
  std::vector<float> values;
  for (int64_t i = 0; i < SomeTopology().total_stored(); ++i) {
    values.push_back(static_cast<float>(scale * rng.Normal()));
  }
  return values;
}

float LargestOf(std::span<const float> values) {
  float largest = 0;
  for (const float value : values) largest = std::max(largest, std::abs(value));
  return largest;
}

TEST(CompactValuesTest, TakeTheBytesThatTheirTypeSays) {
  const tensor::ModelTopology topology = SomeTopology();
  EXPECT_EQ(CompactBytes(topology, v1::SECTION_TYPE_BF16), 603 * 2 + 4 * 4);
  // Three blocks of the first tensor, one of the last.
  EXPECT_EQ(CompactBytes(topology, v1::SECTION_TYPE_INT8), 603 + 4 * 4 + 4 * 4);
  for (const v1::SectionType type : kTypes) {
    EXPECT_EQ(EncodeCompact(topology, type, SomeValues(1)).size(), CompactBytes(topology, type));
  }
}

TEST(CompactValuesTest, BytesAreThoseOfTheDocumentedFormat) {
  auto layout =
      std::make_shared<const tensor::ModelLayout>(tensor::ModelLayout{{"b", {3}, 3, 1, false}});
  const auto topology = tensor::ModelTopology::Create(layout, {nullptr}).value();
  const std::vector<float> values = {1.0F, -127.0F, 3.4F};
  EXPECT_EQ(EncodeCompact(topology, v1::SECTION_TYPE_INT8, values),
            std::string("\x00\x00\x80\x3f\x01\x81\x03", 7));
  EXPECT_EQ(EncodeCompact(topology, v1::SECTION_TYPE_BF16, values),
            std::string("\x80\x3f\xfe\xc2\x5a\x40", 6));
}

TEST(CompactValuesTest, EachValueBecomesTheNearestOneAndStaysIt) {
  const tensor::ModelTopology topology = SomeTopology();
  for (const v1::SectionType type : kTypes) {
    for (const double scale : {1.0, 1e-20, 1e30, 1e-3}) {
      const std::vector<float> values = SomeValues(2, scale);
      std::vector<float> rounded = values;
      RoundToNearest(topology, type, rounded);
      const float largest = LargestOf(values);
      for (size_t i = 0; i < values.size(); ++i) {
        const float step =
            type == v1::SECTION_TYPE_BF16 ? std::abs(values[i]) / 128 : largest / 127 * 1.0001F;
        EXPECT_LE(std::abs(rounded[i] - values[i]), step / 2) << i;
      }
      std::vector<float> again = rounded;
      RoundToNearest(topology, type, again);
      EXPECT_EQ(again, rounded) << "rounding twice is rounding once";
      EXPECT_EQ(DecodeCompact(topology, type, EncodeCompact(topology, type, rounded)).value(),
                rounded)
          << "nothing is lost of what was rounded";
    }
  }
}

TEST(CompactValuesTest, RunningStatisticsStayAsTheyAre) {
  const tensor::ModelTopology topology = SomeTopology();
  const std::vector<float> values = SomeValues(3);
  const std::vector<float> base = SomeValues(4);
  for (const v1::SectionType type : kTypes) {
    std::vector<float> rounded = values;
    RoundToNearest(topology, type, rounded);
    const auto decoded =
        DecodeDifferences(topology, type, EncodeDifferences(topology, type, values, base, 1), base);
    ASSERT_TRUE(decoded.ok());
    for (int64_t i = topology.offset(1); i < topology.offset(2); ++i) {
      EXPECT_EQ(rounded[i], values[i]);
      EXPECT_EQ((*decoded)[i], values[i]);
    }
  }
}

TEST(CompactValuesTest, ExtremesStayFinite) {
  auto layout =
      std::make_shared<const tensor::ModelLayout>(tensor::ModelLayout{{"b", {4}, 4, 1, false}});
  const auto topology = tensor::ModelTopology::Create(layout, {nullptr}).value();
  const float most = std::numeric_limits<float>::max();
  const float least = std::numeric_limits<float>::denorm_min();
  for (const v1::SectionType type : kTypes) {
    for (uint64_t key = 0; key < 20; ++key) {
      const std::vector<float> values = {most, -most, least, 0};
      const std::vector<float> zeros(4);
      const auto decoded = DecodeDifferences(
          topology, type, EncodeDifferences(topology, type, values, zeros, key), zeros);
      ASSERT_TRUE(decoded.ok()) << decoded.status();
      for (const float value : *decoded) EXPECT_TRUE(std::isfinite(value));
      EXPECT_GT((*decoded)[0], 0.99F * most);
    }
    std::vector<float> small = {least, -least, 0x1p-126F, 0};
    RoundToNearest(topology, type, small);
    for (const float value : small) EXPECT_LE(std::abs(value), 0x1p-125F);
  }
}

// Over many keys the mean is the difference, which no rounding to the nearest would give.
TEST(CompactValuesTest, DifferencesAreRoundedAtRandomWithoutBias) {
  auto layout =
      std::make_shared<const tensor::ModelLayout>(tensor::ModelLayout{{"b", {3}, 3, 1, false}});
  const auto topology = tensor::ModelTopology::Create(layout, {nullptr}).value();
  const std::vector<float> base = {0.5F, 2.0F, -1.0F};
  const std::vector<float> difference = {1.0F, 0.003F, -0.3331F};
  std::vector<float> values;
  for (size_t i = 0; i < 3; ++i) values.push_back(base[i] + difference[i]);
  constexpr int kDraws = 4000;
  for (const v1::SectionType type : kTypes) {
    std::vector<double> sums(3);
    for (uint64_t key = 0; key < kDraws; ++key) {
      const auto decoded = DecodeDifferences(
          topology, type, EncodeDifferences(topology, type, values, base, key), base);
      for (size_t i = 0; i < 3; ++i) sums[i] += (*decoded)[i] - base[i];
    }
    // Five standard deviations of a mean of so many draws, each at most half a step (1 / 127).
    const double tolerance = 5 * 0.5 / 127 / std::sqrt(kDraws);
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(sums[i] / kDraws, difference[i], tolerance) << i;
  }
}

TEST(CompactValuesTest, TheSameKeyGivesTheSameBytes) {
  const tensor::ModelTopology topology = SomeTopology();
  for (const v1::SectionType type : kTypes) {
    const auto with = [&](uint64_t key) {
      return EncodeDifferences(topology, type, SomeValues(5), SomeValues(6), key);
    };
    EXPECT_EQ(with(1), with(1));
    EXPECT_NE(with(1), with(2));
  }
}

TEST(CompactValuesTest, OtherLengthsAndScalesAreRefused) {
  const tensor::ModelTopology topology = SomeTopology();
  for (const v1::SectionType type : kTypes) {
    std::string bytes = EncodeCompact(topology, type, SomeValues(7));
    EXPECT_EQ(base::ReasonOf(DecodeCompact(topology, type, bytes + "x").status()),
              "SHAPE_MISMATCH");
    EXPECT_EQ(base::ReasonOf(DecodeCompact(topology, type, "").status()), "SHAPE_MISMATCH");
  }
  std::string bytes = EncodeCompact(topology, v1::SECTION_TYPE_INT8, SomeValues(7));
  for (const float bad :
       {-1.0F, std::numeric_limits<float>::max(), std::numeric_limits<float>::quiet_NaN()}) {
    std::memcpy(bytes.data(), &bad, sizeof(bad));
    EXPECT_EQ(base::ReasonOf(DecodeCompact(topology, v1::SECTION_TYPE_INT8, bytes).status()),
              "NON_FINITE");
  }
}

}  // namespace
}  // namespace espalier::wire
