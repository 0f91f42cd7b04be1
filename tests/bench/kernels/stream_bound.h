// The speed that a sparse product cannot exceed: one fused multiply-add per register loaded from
// the second-level cache.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/engine/aligned_buffer.h"
#include "worker/engine/kernels/kernels.h"

namespace espalier::bench {

// Streams half of the second-level cache on each of several threads: rows of 512 bytes, of a batch
// of 128, in random order, as the products read them. Ascending order was slower where both were
// tried, since the processor fetches ahead what it has already.
class L2Stream {
 public:
  L2Stream(worker::engine::Isa isa, int threads);

  // Operations of a pass over the data of all threads.
  double flops() const;
  void Run(int passes);

 private:
  worker::engine::Isa isa_;
  std::vector<int32_t> rows_;                        // in the order of their visits
  std::vector<worker::engine::AlignedBuffer> data_;  // of each thread
};

}  // namespace espalier::bench
