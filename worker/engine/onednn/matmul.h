// Matmul: a dense matrix product by oneDNN, the same bits for every number of threads.
#pragma once

#include <vector>

#include "worker/engine/backend.h"
#include "worker/engine/onednn/context.h"

namespace espalier::worker::engine::onednn {

class Matmul {
 public:
  // `context` has to live as long. Errors: throws dnnl::error.
  Matmul(const GemmShape& shape, Context& context);
  // Errors: throws dnnl::error.
  void Run(const float* a, const float* b, float* c);

 private:
  // Rows or columns of C with everything that they are a sum of.
  struct Part {
    dnnl::matmul primitive;
    dnnl::memory a;
    dnnl::memory b;
    dnnl::memory c;
    dnnl::memory scratch;
    int64_t a_offset = 0;
    int64_t b_offset = 0;
    int64_t c_offset = 0;
  };

  void Add(const GemmShape& s, int64_t a_offset, int64_t b_offset, int64_t c_offset);

  Context& context_;
  std::vector<Part> parts_;
};

}  // namespace espalier::worker::engine::onednn
