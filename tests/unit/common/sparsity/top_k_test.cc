#include "common/sparsity/top_k.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "common/base/rng.h"

namespace espalier::sparsity {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

struct Stream {
  std::vector<int64_t> positions;
  std::vector<float> values;
};

// A shuffled stream; `levels` different magnitudes make ties.
Stream RandomStream(size_t size, uint64_t levels, uint64_t key) {
  base::Rng rng(key);
  Stream stream;
  stream.positions.resize(size);
  std::iota(stream.positions.begin(), stream.positions.end(), 1000);
  base::Shuffle(std::span(stream.positions), rng);
  for (size_t i = 0; i < size; ++i) {
    const float magnitude = static_cast<float>(rng.Below(levels)) / 16;
    stream.values.push_back(rng.Below(2) == 0 ? magnitude : -magnitude);
  }
  return stream;
}

ScoredPositions BySorting(const Stream& stream, size_t k) {
  std::vector<size_t> order(stream.positions.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const float x = std::abs(stream.values[a]);
    const float y = std::abs(stream.values[b]);
    return x != y ? x > y : stream.positions[a] < stream.positions[b];
  });
  order.resize(std::min(k, order.size()));
  std::sort(order.begin(), order.end(),
            [&](size_t a, size_t b) { return stream.positions[a] < stream.positions[b]; });
  ScoredPositions best;
  for (const size_t i : order) {
    best.positions.push_back(stream.positions[i]);
    best.values.push_back(stream.values[i]);
  }
  return best;
}

TEST(TopKTest, KeepsTheLargestMagnitudesInPositionOrder) {
  TopK top(2);
  top.Offer(9, .1f);
  top.Offer(7, -3);
  top.Offer(5, 1);
  top.Offer(3, 2);
  const ScoredPositions best = top.TakeSorted();
  EXPECT_THAT(best.positions, ElementsAre(3, 7));
  EXPECT_THAT(best.values, ElementsAre(2, -3));
}

TEST(TopKTest, EqualsSortingTheWholeStream) {
  for (const uint64_t levels : {1, 3, 100000}) {
    for (const int64_t k : {1, 2, 50, 999, 1000, 1001}) {
      const Stream stream = RandomStream(1000, levels, levels + k);
      TopK top(k);
      for (size_t i = 0; i < 1000; ++i) top.Offer(stream.positions[i], stream.values[i]);
      const ScoredPositions best = top.TakeSorted();
      const ScoredPositions expected = BySorting(stream, k);
      EXPECT_EQ(best.positions, expected.positions) << levels << " levels, k = " << k;
      EXPECT_EQ(best.values, expected.values);
    }
  }
}

TEST(TopKTest, NothingEntersWhenKIsZero) {
  TopK top(0);
  top.Offer(1, std::numeric_limits<float>::infinity());
  EXPECT_THAT(top.TakeSorted().positions, IsEmpty());
}

TEST(TopKTest, ThresholdNeverExceedsTheKthMagnitude) {
  const Stream stream = RandomStream(5000, 100000, 8);
  TopK top(100);
  EXPECT_EQ(top.threshold(), 0.0f);
  for (size_t i = 0; i < 5000; ++i) top.Offer(stream.positions[i], stream.values[i]);
  const float threshold = top.threshold();
  EXPECT_GT(threshold, 0.0f);
  for (const float value : top.TakeSorted().values) EXPECT_GE(std::abs(value), threshold);
}

TEST(TopKTest, IsEmptyAgainAfterTaking) {
  TopK top(1);
  top.Offer(1, 5);
  top.Offer(2, 6);
  top.Offer(3, 7);
  EXPECT_THAT(top.TakeSorted().positions, ElementsAre(3));
  EXPECT_THAT(top.TakeSorted().positions, IsEmpty());
  top.Offer(4, .5f);
  EXPECT_THAT(top.TakeSorted().positions, ElementsAre(4));
}

TEST(TopKTest, NotANumberShowsUp) {
  TopK top(1);
  top.Offer(1, 5);
  top.Offer(2, std::numeric_limits<float>::quiet_NaN());
  top.Offer(3, 7);
  EXPECT_THAT(top.TakeSorted().positions, ElementsAre(2));
}

}  // namespace
}  // namespace espalier::sparsity
