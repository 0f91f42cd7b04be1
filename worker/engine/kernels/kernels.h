// The hand-written float32 kernels for sparse products.
//
// Shapes:      activations are feature-major: row r of X begins at x + r·stride and holds one
//              float per example. Widths are counted in blocks of kLanes floats; the caller
//              zero-pads examples.
// Aliasing:    outputs never overlap inputs.
// Alignment:   none needed; rows aligned to 64 bytes are fastest.
// Threading:   a call touches only the rows it is given; callers split rows over threads.
// Determinism: every output element is computed by its row alone, in the order of the columns, so
//              results do not depend on how rows are split over threads. They do depend on the
//              instruction set: AVX-512 and AVX2 use fused multiply-add, the portable kernels do
//              not.
#pragma once

#include <cstdint>

#include "common/tensor/lanes.h"

namespace espalier::worker::engine {

using tensor::kLanes;
using tensor::PaddedStride;
using tensor::WholeLanes;

enum class Isa { kPortable, kAvx2, kAvx512 };

// Nonzeros of a range of columns, borrowed: those of row r are [begin[r], end[r]) of `columns`.
struct CsrPanel {
  const int32_t* begin = nullptr;
  const int32_t* end = nullptr;
  const int32_t* columns = nullptr;
};

// The examples [first, first + count)·kLanes.
struct Blocks {
  int64_t first = 0;
  int64_t count = 0;
};

// The rows [begin, end).
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
};

struct KernelTable {
  // Y[r] = (add ? Y[r] : 0) + Σ_k values[k]·X[columns[k]], for the rows and blocks given.
  void (*spmm)(const CsrPanel& w, const float* values, const float* x, int64_t stride,
               Blocks blocks, bool add, float* y, RowRange rows);
  // gradient[k] = (add ? gradient[k] : 0) + Σ_b dY[r][b]·X[columns[k]][b]: the gradient with
  // respect to the stored values only (a sampled dense-dense product).
  void (*sddmm)(const CsrPanel& w, const float* dy, const float* x, int64_t stride, Blocks blocks,
                bool add, float* gradient, RowRange rows);
  // Largest blocks.count of one call.
  int64_t max_blocks;
};

// The best instruction set this processor runs.
Isa DetectIsa();

// The kernels for `isa`, which the processor must support.
const KernelTable& Kernels(Isa isa);

// What Kernels() chooses from.
const KernelTable& PortableKernels();
const KernelTable& Avx2Kernels();
const KernelTable& Avx512Kernels();

}  // namespace espalier::worker::engine
