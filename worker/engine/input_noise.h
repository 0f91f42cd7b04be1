// Noise on inputs while training, for denoising autoencoders: each feature of each example gets a
// number of mean 0 added.
//
// Distribution: the sum of four independent whole numbers, each uniform over 0 to 255, less its
//               mean and divided by its standard deviation: close to a normal one, with at most
//               3.45 standard deviations, and the same to the last bit on every machine, which
//               logarithms and roots of the C library are not.
// Determinism:  a pure function of (key, row, column), whatever the number of threads.
// Threading:    touches only its rows.
#pragma once

#include <cstdint>

#include "worker/engine/kernels/kernels.h"

namespace espalier::worker::engine {

// Adds noise of this standard deviation to the first `width` columns (examples) of `rows`
// (features) of `values`, in place. Columns [4g, 4g + 4) of row r come from the words of the Philox
// block with counter {r low, r high, g, 0}.
void AddNoise(double deviation, uint64_t key, RowRange rows, int64_t width, int64_t stride,
              float* values);

}  // namespace espalier::worker::engine
