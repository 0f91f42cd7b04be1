#include "server/methods/pruning/sweep/global_magnitude.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "common/base/rng.h"

namespace espalier::server::methods {
namespace {

// Which of `values` go, seen in stretches of `stretch`.
std::vector<bool> Prune(const std::vector<float>& values, int64_t count, size_t stretch) {
  GlobalMagnitude chosen(count);
  const auto pass = [&] {
    for (size_t begin = 0; begin < values.size(); begin += stretch) {
      const size_t size = std::min(stretch, values.size() - begin);
      chosen.Count(std::span(values).subspan(begin, size));
    }
  };
  pass();
  chosen.Narrow();
  pass();
  chosen.Choose();
  std::vector<bool> pruned;
  for (const float value : values) pruned.push_back(chosen.IsPruned(value));
  return pruned;
}

TEST(GlobalMagnitudeTest, IsTheSortedChoice) {
  base::Rng rng(base::StreamKey(1, "magnitude", {}));
  std::vector<float> values(1000);
  for (float& value : values) value = static_cast<float>(std::round(rng.Normal() * 20) / 10);
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return std::abs(values[a]) < std::abs(values[b]); });
  for (const int64_t count : {0, 1, 37, 500, 999, 1000}) {
    std::vector<bool> expected(values.size());
    for (int64_t i = 0; i < count; ++i) expected[order[i]] = true;
    EXPECT_EQ(Prune(values, count, 64), expected) << count;
    EXPECT_EQ(Prune(values, count, 1000), expected) << count;
  }
}

}  // namespace
}  // namespace espalier::server::methods
