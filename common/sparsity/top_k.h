// TopK: the k positions of largest |value| out of a stream that is never stored.
//
// Order:       larger |value| first, among equals the lower position: the result is exactly the top
//              k of the whole stream, whatever the order of offers. NaN counts as largest, so that
//              it shows up where results are checked instead of being lost.
// Memory:      at most 32 bytes per k. A full buffer of 2k entries is cut back to the best k by
//              selection, which costs O(1) per entry; a heap's O(log k) is several times slower.
// Threading:   not thread-safe; use one per thread and offer one's results to another.
// Determinism: independent of the order of offers.
// Source:      ours; the exact top k of a dense gradient (Evci et al., ICML 2020) without it.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "common/sparsity/selection.h"

namespace espalier::sparsity {

// Positions, ascending, and the value at each.
struct ScoredPositions {
  std::vector<int64_t> positions;
  std::vector<float> values;
};

class TopK {
 public:
  // k ≥ 0.
  explicit TopK(int64_t k);

  // A position must not be offered twice.
  void Offer(int64_t position, float value) {
    if (MagnitudeBits(value) >= threshold_bits_) Insert(position, value);
  }

  // Values with |value| below this cannot enter any more: lets a kernel skip whole blocks. 0 until
  // the buffer was full once.
  float threshold() const { return std::bit_cast<float>(threshold_bits_ & 0x7FFFFFFFu); }

  // The best min(k, offered) entries. Leaves this object empty, ready for the next stream.
  ScoredPositions TakeSorted();

 private:
  struct Entry {
    int64_t position;
    float value;
  };
  static bool Better(const Entry& a, const Entry& b);
  void Insert(int64_t position, float value);
  void Shrink();
  uint32_t InitialThreshold() const;

  size_t k_;
  uint32_t threshold_bits_;
  int64_t threshold_position_;
  std::vector<Entry> entries_;
};

}  // namespace espalier::sparsity
