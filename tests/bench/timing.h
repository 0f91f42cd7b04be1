// What the benchmarks of single products share: the clock, the fastest of many runs, operands.
#pragma once

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <functional>

#include "common/base/rng.h"
#include "worker/engine/aligned_buffer.h"

namespace espalier::bench {

// Seconds that count: processor time of the one thread, so that other work on the machine disturbs
// little, or elapsed time of several.
inline double Now(int threads) {
  timespec now = {};
  clock_gettime(threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

// Milliseconds of the fastest run within the time given.
inline double FastestMilliseconds(double seconds, int threads, const std::function<void()>& run) {
  double best = 1e9;
  const double deadline = Now(threads) + seconds;
  for (int runs = 0; runs < 5 || Now(threads) < deadline; ++runs) {
    const double start = Now(threads);
    run();
    best = std::min(best, Now(threads) - start);
  }
  return best * 1e3;
}

// Numbers in [-0.5, 0.5), the same in each call.
inline worker::engine::AlignedBuffer RandomBuffer(int64_t size) {
  worker::engine::AlignedBuffer buffer(size);
  base::Rng rng(5);
  for (float& value : buffer.span()) value = static_cast<float>(rng.Uniform() - 0.5);
  return buffer;
}

}  // namespace espalier::bench
