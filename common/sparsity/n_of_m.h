// N:M sparsity: of every M consecutive weights along the inputs of a row, N are kept.
//
// Groups:      members of a group stand `step` columns apart: 1 for a matrix; for a convolution
//              the kernel's area, so that a group has M input channels of one kernel position. A
//              group at the end with t < M members keeps ⌈N · t / M⌉.
// Order:       total order (|w|, index): of equal magnitudes the lower index goes first.
// Threading:   pure functions. Determinism: bit-identical everywhere.
// Source:      Mishra et al., Accelerating Sparse Deep Neural Networks, arXiv 2104.08378; Zhou et
//              al., ICLR 2021, arXiv 2102.04010 (groups along input channels).
#pragma once

#include <cstdint>
#include <functional>
#include <span>

namespace espalier::sparsity {

struct NOfM {
  int64_t kept = 2;   // N
  int64_t group = 4;  // M
  int64_t step = 1;   // columns between two members
  int64_t cols = 0;   // of a row; a multiple of `step`

  // Groups of a row. Members of group g are FirstOf(g) + k · step, k < SizeOf(g).
  int64_t groups() const { return (cols / step + group - 1) / group * step; }
  int64_t FirstOf(int64_t g) const { return g / step * group * step + g % step; }
  int64_t SizeOf(int64_t g) const;
  // How many members of group g are kept.
  int64_t KeptOf(int64_t g) const { return (kept * SizeOf(g) + group - 1) / group; }
  int64_t GroupOf(int64_t column) const { return column / step / group * step + column % step; }
  // Weights of a row that are kept.
  int64_t KeptInRow() const;
};

// Calls `drop` with the columns of `row` that go, group by group.
void ForEachDropped(std::span<const float> row, const NOfM& pattern,
                    const std::function<void(int64_t column)>& drop);

// The same as a copy of the row with zeros in their place.
void KeepNOfM(std::span<const float> row, const NOfM& pattern, std::span<float> kept);

}  // namespace espalier::sparsity
