#include "common/sparsity/complement.h"

#include <numeric>

#include "common/base/check.h"

namespace espalier::sparsity {

std::vector<int64_t> RankToPosition(std::span<const int64_t> active,
                                    std::span<const int64_t> ranks) {
  std::vector<int64_t> positions;
  positions.reserve(ranks.size());
  // active[i] − i positions of the complement lie before active[i].
  size_t passed = 0;
  for (const int64_t rank : ranks) {
    while (passed < active.size() && active[passed] - static_cast<int64_t>(passed) <= rank) {
      ++passed;
    }
    positions.push_back(rank + static_cast<int64_t>(passed));
  }
  return positions;
}

std::vector<int64_t> PositionToRank(std::span<const int64_t> active,
                                    std::span<const int64_t> positions) {
  std::vector<int64_t> ranks;
  ranks.reserve(positions.size());
  size_t passed = 0;
  for (const int64_t position : positions) {
    while (passed < active.size() && active[passed] < position) ++passed;
    ranks.push_back(position - static_cast<int64_t>(passed));
  }
  return ranks;
}

std::vector<int64_t> Complement(std::span<const int64_t> active, int64_t universe) {
  std::vector<int64_t> positions(universe - static_cast<int64_t>(active.size()));
  auto out = positions.begin();
  int64_t begin = 0;
  // Fills the gap before each active position, then the one after the last.
  const auto fill_to = [&](int64_t end) {
    std::iota(out, out + (end - begin), begin);
    out += end - begin;
    begin = end + 1;
  };
  for (const int64_t position : active) fill_to(position);
  fill_to(universe);
  return positions;
}

std::vector<int64_t> KeptPositions(const tensor::Topology& topology,
                                   std::span<const int32_t> dropped) {
  std::vector<int64_t> positions = topology.Positions();
  if (dropped.empty()) return positions;
  ESPALIER_CHECK(dropped.back() < topology.nnz(), "dropped indices are in topology order");
  size_t next = 0;
  size_t kept = dropped.front();
  for (size_t i = kept; i < positions.size(); ++i) {
    if (next < dropped.size() && dropped[next] == static_cast<int32_t>(i)) {
      ++next;
    } else {
      positions[kept++] = positions[i];
    }
  }
  positions.resize(kept);
  return positions;
}

}  // namespace espalier::sparsity
