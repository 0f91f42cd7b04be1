#include "common/sparsity/n_of_m.h"

#include <algorithm>
#include <cmath>

namespace espalier::sparsity {
namespace {

// Whether member `k` of a group is among the `kept` largest of its `size` members, which stand
// `step` apart from `first` on. Groups are small, so that counting is quicker than sorting.
bool IsKept(const float* first, int64_t step, int64_t size, int64_t kept, int64_t k) {
  const float magnitude = std::abs(first[k * step]);
  int64_t larger = 0;
  for (int64_t other = 0; other < size; ++other) {
    const float that = std::abs(first[other * step]);
    larger += that > magnitude || (that == magnitude && other > k) ? 1 : 0;
  }
  return larger < kept;
}

template <typename Visit>
void ForEachMember(std::span<const float> row, const NOfM& pattern, const Visit& visit) {
  for (int64_t g = 0; g < pattern.groups(); ++g) {
    const int64_t begin = pattern.FirstOf(g);
    const int64_t size = pattern.SizeOf(g);
    const int64_t kept = pattern.KeptOf(g);
    for (int64_t k = 0; k < size; ++k) {
      visit(begin + k * pattern.step, IsKept(row.data() + begin, pattern.step, size, kept, k));
    }
  }
}

}  // namespace

int64_t NOfM::SizeOf(int64_t g) const { return std::min(group, cols / step - g / step * group); }

int64_t NOfM::KeptInRow() const {
  int64_t sum = 0;
  for (int64_t g = 0; g < groups(); ++g) sum += KeptOf(g);
  return sum;
}

void ForEachDropped(std::span<const float> row, const NOfM& pattern,
                    const std::function<void(int64_t column)>& drop) {
  ForEachMember(row, pattern, [&](int64_t column, bool kept) {
    if (!kept) drop(column);
  });
}

void KeepNOfM(std::span<const float> row, const NOfM& pattern, std::span<float> kept) {
  ForEachMember(row, pattern,
                [&](int64_t column, bool is_kept) { kept[column] = is_kept ? row[column] : 0.0F; });
}

}  // namespace espalier::sparsity
