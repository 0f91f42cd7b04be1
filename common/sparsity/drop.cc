#include "common/sparsity/drop.h"

#include "common/sparsity/random_topology.h"
#include "common/sparsity/schedule.h"
#include "common/sparsity/selection.h"

namespace espalier::sparsity {

std::vector<int32_t> DropSmallestMagnitude(std::span<const float> values, int64_t count) {
  std::vector<uint64_t> keys(values.size());
  for (uint32_t i = 0; i < values.size(); ++i) keys[i] = SmallestFirst(values[i], i);
  const uint64_t bound = BoundOfSmallest(keys, count);
  std::vector<int32_t> dropped;
  dropped.reserve(count);
  for (uint32_t i = 0; i < values.size(); ++i) {
    if (SmallestFirst(values[i], i) < bound) dropped.push_back(static_cast<int32_t>(i));
  }
  return dropped;
}

std::vector<int32_t> DropSetSigned(std::span<const float> values, double zeta) {
  std::vector<uint64_t> positive;
  std::vector<uint64_t> negative;
  for (uint32_t i = 0; i < values.size(); ++i) {
    (values[i] < 0 ? negative : positive).push_back(SmallestFirst(values[i], i));
  }
  const int64_t positive_count = FractionOf(zeta, static_cast<int64_t>(positive.size()));
  const int64_t negative_count = FractionOf(zeta, static_cast<int64_t>(negative.size()));
  const uint64_t positive_bound = BoundOfSmallest(positive, positive_count);
  const uint64_t negative_bound = BoundOfSmallest(negative, negative_count);
  std::vector<int32_t> dropped;
  dropped.reserve(positive_count + negative_count);
  for (uint32_t i = 0; i < values.size(); ++i) {
    const uint64_t bound = values[i] < 0 ? negative_bound : positive_bound;
    if (SmallestFirst(values[i], i) < bound) dropped.push_back(static_cast<int32_t>(i));
  }
  return dropped;
}

std::vector<int32_t> DropRandom(int64_t nnz, int64_t count, uint64_t key) {
  const std::vector<int64_t> drawn = DrawPositions(key, count, nnz);
  return std::vector<int32_t>(drawn.begin(), drawn.end());
}

}  // namespace espalier::sparsity
