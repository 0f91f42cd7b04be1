// What oneDNN's products of one backend share: engine, and for each thread a stream and memory.
//
// A product is cut into parts whose bounds depend on its shape alone. One thread computes a part
// from beginning to end, so that the bits are the same for every number of threads; a library that
// is left to itself cuts by the number of threads, also where it adds.
//
// Threading: one product at a time.
#pragma once

#include <omp.h>

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>
#include <vector>

#include "worker/engine/aligned_buffer.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine::onednn {

// oneDNN takes its number of threads from OpenMP, both when a primitive is made and when it runs.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ~ThreadScope() { omp_set_num_threads(before_); }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

// A buffer of at least `floats`, without what was in it before.
inline void Reserve(AlignedBuffer& buffer, int64_t floats) {
  if (buffer.size() < floats) buffer = AlignedBuffer(floats);
}

inline int64_t Floats(const dnnl::memory::desc& desc) {
  return static_cast<int64_t>((desc.get_size() + sizeof(float) - 1) / sizeof(float));
}

struct Context {
  // Errors: throws dnnl::error.
  explicit Context(int threads)
      : engine(dnnl::engine::kind::cpu, 0), stream(engine), thread(threads) {
    for (Thread& own : thread) own.stream = dnnl::stream(engine);
  }

  int threads() const { return static_cast<int>(thread.size()); }

  int UsedBy(int64_t parts) const { return static_cast<int>(std::min<int64_t>(parts, threads())); }

  // For a product of so many parts, so that nothing has to be allocated while it runs.
  void ReserveScratch(int64_t parts, const dnnl::memory::desc& desc) {
    for (int i = 0; i < UsedBy(parts); ++i) Reserve(thread[i].scratch, Floats(desc));
  }
  void ReserveOperand(int64_t parts, int operand, const dnnl::memory::desc& desc) {
    for (int i = 0; i < UsedBy(parts); ++i) Reserve(thread[i].operands[operand], Floats(desc));
  }

  // Calls body(part, resources of the thread that runs it) for every part.
  template <typename Body>
  void ForParts(int64_t parts, const Body& body) {
    const ThreadScope scope(1);  // inside of a part
    const int used = UsedBy(parts);
    ParallelParts(used, [&](int own) {
      const int64_t end = parts * (own + 1) / used;
      for (int64_t part = parts * own / used; part < end; ++part) body(part, thread[own]);
    });
  }

  struct Thread {
    dnnl::stream stream;
    // What the library asks for beside the operands, and operands in its own layout.
    AlignedBuffer scratch;
    AlignedBuffer operands[3];
  };

  dnnl::engine engine;
  dnnl::stream stream;
  std::vector<Thread> thread;
  // Weights of a convolution, or their gradient, in the library's layout.
  AlignedBuffer weights;
};

// oneDNN never writes through the handles of its inputs.
inline void* InputHandle(const float* data) { return const_cast<float*>(data); }

// The library keeps no memory of its own while a primitive runs, so that threads can share it.
inline dnnl::primitive_attr OwnScratch() {
  dnnl::primitive_attr attributes;
  attributes.set_scratchpad_mode(dnnl::scratchpad_mode::user);
  return attributes;
}

inline dnnl::memory::desc MatrixDesc(int64_t rows, int64_t cols, bool transposed, int64_t ld) {
  const dnnl::memory::dims strides =
      transposed ? dnnl::memory::dims{1, ld} : dnnl::memory::dims{ld, 1};
  return {{rows, cols}, dnnl::memory::data_type::f32, strides};
}

}  // namespace espalier::worker::engine::onednn
