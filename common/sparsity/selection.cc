#include "common/sparsity/selection.h"

#include <algorithm>
#include <limits>

#include "common/base/check.h"

namespace espalier::sparsity {

uint64_t BoundOfSmallest(std::vector<uint64_t>& keys, int64_t count) {
  const auto size = static_cast<int64_t>(keys.size());
  ESPALIER_CHECK(0 <= count && count <= size, "no more can be selected than there are");
  if (count == size) return std::numeric_limits<uint64_t>::max();
  std::nth_element(keys.begin(), keys.begin() + count, keys.end());
  return keys[count];
}

}  // namespace espalier::sparsity
