#include "worker/engine/onednn/matmul.h"

#include <algorithm>
#include <bit>

namespace espalier::worker::engine::onednn {
namespace {

// Parts are as large as a thread needs not to notice their number, and at most kParts: a part that
// is a tenth of a millisecond long costs nothing to begin.
constexpr int64_t kPartProducts = 4 << 20;
constexpr int64_t kParts = 16;
// Floats of a register: parts end between them.
constexpr int64_t kLanesOfPart = 16;

// Rows (or columns) of a part of `size` rows (columns).
int64_t PartSize(const GemmShape& shape, int64_t size) {
  const int64_t products = shape.m * shape.n * shape.k;
  // A power of two, which 2, 4 and 8 threads share evenly.
  const auto parts = static_cast<int64_t>(std::bit_ceil(
      static_cast<uint64_t>(std::clamp<int64_t>(products / kPartProducts, 1, kParts))));
  const int64_t even = (size + parts - 1) / parts;
  return (even + kLanesOfPart - 1) / kLanesOfPart * kLanesOfPart;
}

}  // namespace

Matmul::Matmul(const GemmShape& shape, Context& context) : context_(context) {
  const ThreadScope scope(1);
  if (shape.m >= shape.n) {
    const int64_t rows = PartSize(shape, shape.m);
    for (int64_t row = 0; row < shape.m; row += rows) {
      GemmShape part = shape;
      part.m = std::min(rows, shape.m - row);
      Add(part, shape.transpose_a ? row : row * shape.lda, 0, row * shape.ldc);
    }
  } else {
    const int64_t cols = PartSize(shape, shape.n);
    for (int64_t col = 0; col < shape.n; col += cols) {
      GemmShape part = shape;
      part.n = std::min(cols, shape.n - col);
      Add(part, 0, shape.transpose_b ? col * shape.ldb : col, col);
    }
  }
}

void Matmul::Add(const GemmShape& s, int64_t a_offset, int64_t b_offset, int64_t c_offset) {
  const dnnl::engine& engine = context_.engine;
  const dnnl::matmul::primitive_desc desc(engine, MatrixDesc(s.m, s.k, s.transpose_a, s.lda),
                                          MatrixDesc(s.k, s.n, s.transpose_b, s.ldb),
                                          MatrixDesc(s.m, s.n, false, s.ldc), OwnScratch());
  parts_.push_back({.primitive = dnnl::matmul(desc),
                    .a = dnnl::memory(desc.src_desc(), engine, DNNL_MEMORY_NONE),
                    .b = dnnl::memory(desc.weights_desc(), engine, DNNL_MEMORY_NONE),
                    .c = dnnl::memory(desc.dst_desc(), engine, DNNL_MEMORY_NONE),
                    .scratch = dnnl::memory(desc.scratchpad_desc(), engine, DNNL_MEMORY_NONE),
                    .a_offset = a_offset,
                    .b_offset = b_offset,
                    .c_offset = c_offset});
  context_.ReserveScratch(static_cast<int64_t>(parts_.size()), desc.scratchpad_desc());
}

void Matmul::Run(const float* a, const float* b, float* c) {
  const auto parts = static_cast<int64_t>(parts_.size());
  context_.ForParts(parts, [&](int64_t index, Context::Thread& thread) {
    Part& part = parts_[index];
    part.a.set_data_handle(InputHandle(a + part.a_offset));
    part.b.set_data_handle(InputHandle(b + part.b_offset));
    part.c.set_data_handle(c + part.c_offset);
    part.scratch.set_data_handle(thread.scratch.data());
    part.primitive.execute(thread.stream, {{DNNL_ARG_SRC, part.a},
                                           {DNNL_ARG_WEIGHTS, part.b},
                                           {DNNL_ARG_DST, part.c},
                                           {DNNL_ARG_SCRATCHPAD, part.scratch}});
    thread.stream.wait();
  });
}

}  // namespace espalier::worker::engine::onednn
