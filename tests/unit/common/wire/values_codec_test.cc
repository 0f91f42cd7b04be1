#include "common/wire/values_codec.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "common/base/status.h"

namespace espalier::wire {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

TEST(ValuesCodecTest, ValuesAreLittleEndianFloat32) {
  const std::vector<float> values = {1.0f, -2.0f};
  const std::string bytes(ValuesAsBytes(values));
  EXPECT_EQ(bytes, std::string("\x00\x00\x80\x3f\x00\x00\x00\xc0", 8));
  EXPECT_EQ(DecodeValues(bytes, 2).value(), values);
  EXPECT_TRUE(DecodeValues("", 0).value().empty());
}

TEST(ValuesCodecTest, WrongSizesAreRefused) {
  EXPECT_EQ(base::ReasonOf(DecodeValues("1234567", 2).status()), "SHAPE_MISMATCH");
  EXPECT_EQ(base::ReasonOf(DecodeValues("12345678", 1).status()), "SHAPE_MISMATCH");
  EXPECT_EQ(base::ReasonOf(DecodeValues("", uint64_t{1} << 62).status()), "SHAPE_MISMATCH");
}

TEST(ValuesCodecTest, NonFiniteValuesAreFoundAnywhere) {
  std::vector<float> values(10'000, std::numeric_limits<float>::max());
  values[77] = std::numeric_limits<float>::denorm_min();
  EXPECT_TRUE(AllFinite(values));
  for (const float bad : {kInfinity, -kInfinity, kNan}) {
    for (const size_t place : {0u, 4095u, 4096u, 9999u}) {
      std::vector<float> changed = values;
      changed[place] = bad;
      EXPECT_FALSE(AllFinite(changed)) << place;
      EXPECT_EQ(base::ReasonOf(DecodeValues(ValuesAsBytes(changed), 10'000).status()),
                "NON_FINITE");
    }
  }
}

tensor::ModelLayout ThreeTensors() {
  return {{"a", {4, 5}, 4, 5, true}, {"b", {4}, 4, 1, false}, {"c", {2, 100}, 2, 100, true}};
}

std::vector<TensorScores> SomeScores() {
  return {{{0, 7, 19}, {0.5f, -1.0f, 2.0f}}, {}, {{150}, {3.0f}}};
}

const std::vector<int64_t> kCounts = {3, 0, 1};

TEST(ScoresCodecTest, ListsSurvive) {
  const std::string bytes = EncodeScores(SomeScores(), ThreeTensors());
  const auto scores = DecodeScores(bytes, ThreeTensors(), kCounts);
  ASSERT_TRUE(scores.ok()) << base::MessageOf(scores.status());
  ASSERT_EQ(scores->size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ((*scores)[i].positions, SomeScores()[i].positions);
    EXPECT_EQ((*scores)[i].values, SomeScores()[i].values);
  }
}

TEST(ScoresCodecTest, MoreThanAskedForIsRefused) {
  const std::string bytes = EncodeScores(SomeScores(), ThreeTensors());
  const std::vector<int64_t> fewer = {2, 0, 1};
  EXPECT_EQ(base::ReasonOf(DecodeScores(bytes, ThreeTensors(), fewer).status()),
            "INDEX_SET_INVALID");
}

TEST(ScoresCodecTest, PositionsBeyondTheTensorAreRefused) {
  tensor::ModelLayout smaller = ThreeTensors();
  smaller[2] = {"c", {2, 50}, 2, 50, true};
  const std::string bytes = EncodeScores(SomeScores(), ThreeTensors());
  EXPECT_EQ(base::ReasonOf(DecodeScores(bytes, smaller, kCounts).status()), "INDEX_SET_INVALID");
}

TEST(ScoresCodecTest, NonFiniteScoresAreRefused) {
  std::vector<TensorScores> scores = SomeScores();
  scores[2].values[0] = kNan;
  const std::string bytes = EncodeScores(scores, ThreeTensors());
  EXPECT_EQ(base::ReasonOf(DecodeScores(bytes, ThreeTensors(), kCounts).status()), "NON_FINITE");
}

TEST(ScoresCodecTest, EveryTruncationIsRefusedAndEveryFlipIsRefusedOrValid) {
  const std::string bytes = EncodeScores(SomeScores(), ThreeTensors());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeScores(bytes.substr(0, size), ThreeTensors(), kCounts).ok()) << size;
  }
  EXPECT_FALSE(DecodeScores(bytes + "x", ThreeTensors(), kCounts).ok());
  for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
    std::string changed = bytes;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    const auto scores = DecodeScores(changed, ThreeTensors(), kCounts);
    if (scores.ok()) {
      for (size_t i = 0; i < scores->size(); ++i) {
        EXPECT_EQ((*scores)[i].positions.size(), (*scores)[i].values.size());
        EXPECT_LE((*scores)[i].positions.size(), static_cast<size_t>(kCounts[i]));
        EXPECT_TRUE(AllFinite((*scores)[i].values));
      }
    }
  }
}

}  // namespace
}  // namespace espalier::wire
