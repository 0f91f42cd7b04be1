// The speed that a sparse product cannot exceed: one fused multiply-add per register loaded from
// the second-level cache.
#pragma once

#include "worker/engine/kernels/kernels.h"

namespace espalier::bench {

// GFLOP/s of one thread streaming half of the second-level cache, the best of many runs.
double MeasureStreamBound(worker::engine::Isa isa);

}  // namespace espalier::bench
