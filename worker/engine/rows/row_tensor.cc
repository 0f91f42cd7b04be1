#include "worker/engine/rows/row_tensor.h"

#include <algorithm>

#include "worker/engine/rows/row_arithmetic.h"

namespace espalier::worker::engine {

float RowTensor::Product(int64_t row, const float* x) const {
  const std::span<const float> stored = Row(row);
  if (!is_sparse()) return Dot(stored.data(), x, cols_);
  const std::span<const int32_t> columns = ColumnsOf(row);
  float sum = 0;
  for (size_t k = 0; k < columns.size(); ++k) sum += stored[k] * x[columns[k]];
  return sum;
}

void RowTensor::Expand(int64_t row, float* out) const {
  const std::span<const float> stored = Row(row);
  if (!is_sparse()) {
    std::ranges::copy(stored, out);
    return;
  }
  std::fill_n(out, cols_, 0.0F);
  const std::span<const int32_t> columns = ColumnsOf(row);
  for (size_t k = 0; k < columns.size(); ++k) out[columns[k]] = stored[k];
}

void RowTensor::Gather(int64_t row, const float* dense, float* out) const {
  if (!is_sparse()) {
    std::copy_n(dense, cols_, out);
    return;
  }
  const std::span<const int32_t> columns = ColumnsOf(row);
  for (size_t k = 0; k < columns.size(); ++k) out[k] = dense[columns[k]];
}

std::vector<RowTensor> RowTensorsOf(const tensor::ModelTopology& topology, float* values) {
  std::vector<RowTensor> tensors;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    const tensor::TensorSpec& spec = topology.layout()[i];
    tensors.emplace_back(spec.rows, spec.cols, topology.shared_topology(i).get(),
                         values + topology.offset(i));
  }
  return tensors;
}

void MultiplyRows(Backend& backend, const RowTensor& w, RowRange rows, const float* x,
                  int64_t stride, int64_t width, float* y) {
  if (!w.is_sparse()) {
    backend.Gemm({.m = rows.end - rows.begin,
                  .n = width,
                  .k = w.cols(),
                  .lda = w.cols(),
                  .ldb = stride,
                  .ldc = stride},
                 w.values() + w.begin(rows.begin), x, y);
    return;
  }
  const KernelTable& kernels = Kernels(DetectIsa());
  const tensor::Topology& topology = w.topology();
  const int32_t* offsets = topology.row_offsets().data() + rows.begin;
  const CsrPanel panel = {offsets, offsets + 1, topology.columns().data()};
  const int64_t blocks = width / kLanes;
  for (int64_t first = 0; first < blocks; first += kernels.max_blocks) {
    kernels.spmm(panel, w.values(), x, stride,
                 {first, std::min(kernels.max_blocks, blocks - first)}, false, y,
                 {0, rows.end - rows.begin});
  }
}

}  // namespace espalier::worker::engine
