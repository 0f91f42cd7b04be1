// The hand-written float32 kernels for sparse convolution: sums of shifted pieces of a panel.
//
// Shapes:      a panel is a copy of the input for kLanes examples, [channels][rows][cols][kLanes],
//              with its border of zeros, so that nonzero k reads `offsets[k]` floats after the
//              tile's first input position, whatever the tile. A tile is rows × cols output
//              positions, whose sums stay in registers while the nonzeros of a row stream by.
// Alignment:   panels are aligned to 64 bytes for speed.
// Threading:   a call touches only the rows it is given.
// Determinism: an output is the sum over its row's nonzeros in their order, however tiles are cut.
//              A weight gradient also depends on the tiles, which depend on the instruction set.
#pragma once

#include <cstdint>
#include <span>

#include "worker/engine/kernels/kernels.h"

namespace espalier::worker::engine {

struct ShiftTile {
  int64_t rows = 1;
  int64_t cols = 1;
};

// The nonzeros of row r are [begin[r], begin[r + 1]). Distances are in floats.
struct ShiftRows {
  const int32_t* begin = nullptr;
  const int32_t* offsets = nullptr;
  int64_t in_row = 0;       // between what positions one below the other read
  int64_t in_step = 1;      // between what neighbouring positions read, in kLanes: 1 or 2
  int64_t out_channel = 0;  // between rows r of the output
  int64_t out_row = 0;      // between positions one below the other
  int64_t out_col = 0;      // between neighbouring positions
};

struct ShiftKernels {
  // Positions that one call may compute, the best first; the last one is 1 × 1.
  std::span<const ShiftTile> tiles;
  // Y[r] = Σ_k values[k]·panel[offsets[k]] at each position of the tile. `in` is the tile's first
  // input position in the panel, `out` its first output position of row 0.
  void (*multiply)(const ShiftRows& w, ShiftTile tile, const float* values, const float* in,
                   float* out, RowRange rows);
  // gradient[k] = (add ? gradient[k] : 0) + Σ dY[r]·panel[offsets[k]] over the lanes and the tile's
  // positions, without its first skip.rows rows and skip.cols columns.
  void (*gradient)(const ShiftRows& w, ShiftTile tile, ShiftTile skip, const float* dy,
                   const float* in, bool add, float* gradient, RowRange rows);
};

// The kernels for `isa`, which the processor must support.
const ShiftKernels& ShiftKernelsFor(Isa isa);

// What ShiftKernelsFor() chooses from.
const ShiftKernels& PortableShiftKernels();
const ShiftKernels& Avx2ShiftKernels();
const ShiftKernels& Avx512ShiftKernels();

}  // namespace espalier::worker::engine
