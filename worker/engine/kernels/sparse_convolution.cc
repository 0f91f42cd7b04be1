#include "worker/engine/kernels/sparse_convolution.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

ShiftGeometry ForwardGeometry(const ConvShape& s) {
  const int64_t high = s.kernel - 1 - s.padding;
  return {.in_channels = s.in_channels,
          .in_height = s.in_height,
          .in_width = s.in_width,
          .rows = s.out_height(),
          .cols = s.out_width(),
          .in_step = s.stride,
          .out_height = s.out_height(),
          .out_width = s.out_width(),
          .row_low = -s.padding,
          .row_high = high,
          .col_low = -s.padding,
          .col_high = high};
}

// Output row of the convolution that input row phase + stride·i meets through row k of the window,
// less i; only for k of the phase.
int64_t BackwardShift(const ConvShape& s, int64_t phase, int64_t k) {
  return (phase + s.padding - k) / s.stride;
}

bool IsOfPhase(const ConvShape& s, int64_t phase, int64_t k) {
  return (phase + s.padding - k) % s.stride == 0;
}

// dX at the input positions (phase_row + stride·i, phase_col + stride·j), from dY.
ShiftGeometry BackwardGeometry(const ConvShape& s, int64_t phase_row, int64_t phase_col) {
  const auto range = [&](int64_t phase) {
    int64_t low = 0;
    int64_t high = 0;
    for (int64_t k = 0; k < s.kernel; ++k) {
      if (!IsOfPhase(s, phase, k)) continue;
      low = std::min(low, BackwardShift(s, phase, k));
      high = std::max(high, BackwardShift(s, phase, k));
    }
    return std::pair(low, high);
  };
  const auto [row_low, row_high] = range(phase_row);
  const auto [col_low, col_high] = range(phase_col);
  return {.in_channels = s.out_channels,
          .in_height = s.out_height(),
          .in_width = s.out_width(),
          .rows = (s.in_height - phase_row + s.stride - 1) / s.stride,
          .cols = (s.in_width - phase_col + s.stride - 1) / s.stride,
          .out_step = s.stride,
          .out_height = s.in_height,
          .out_width = s.in_width,
          .first_row = phase_row,
          .first_col = phase_col,
          .row_low = row_low,
          .row_high = row_high,
          .col_low = col_low,
          .col_high = col_high};
}

// Adds the nonzeros of one phase, in the order input channel, window position, output channel.
void AddPhase(const ConvShape& s, const tensor::TransposedTopology& transposed, int64_t phase_row,
              int64_t phase_col, ShiftedProduct& product, std::vector<int32_t>& permutation) {
  const tensor::Topology& t = transposed.topology;
  for (int64_t channel = 0; channel < s.in_channels; ++channel) {
    for (int64_t window = 0; window < s.kernel * s.kernel; ++window) {
      const int64_t row = window / s.kernel;
      const int64_t col = window % s.kernel;
      if (!IsOfPhase(s, phase_row, row) || !IsOfPhase(s, phase_col, col)) continue;
      const int64_t source = channel * s.kernel * s.kernel + window;
      for (int32_t k = t.row_offsets()[source]; k < t.row_offsets()[source + 1]; ++k) {
        product.AddNonzero(t.columns()[k], BackwardShift(s, phase_row, row),
                           BackwardShift(s, phase_col, col));
        permutation.push_back(transposed.permutation[k]);
      }
    }
    product.EndRow();
  }
}

absl::Status TooLarge(const ConvShape& s) {
  return base::InvalidArgument(
      "NETWORK_SPEC", "a convolution of " + std::to_string(s.in_channels) + " × " +
                          std::to_string(s.in_height) + " × " + std::to_string(s.in_width) +
                          " to " + std::to_string(s.out_channels) +
                          " channels has rows that are too long for sparse weights; use smaller "
                          "images or fewer channels, or make the layer dense");
}

}  // namespace

absl::StatusOr<std::unique_ptr<SparseConvolution>> KernelSparseConvolution::Create(
    const tensor::Topology& topology, const ConvShape& shape, int64_t stride, bool input_gradient,
    std::shared_ptr<PanelPool> pool, Isa isa) {
  ShiftedProduct forward(ForwardGeometry(shape), stride, pool, isa);
  if (!forward.fits()) return TooLarge(shape);
  const int64_t window = shape.kernel * shape.kernel;
  for (int64_t row = 0; row < topology.rows(); ++row) {
    for (int32_t k = topology.row_offsets()[row]; k < topology.row_offsets()[row + 1]; ++k) {
      const int64_t column = topology.columns()[k];
      const int64_t position = column % window;
      forward.AddNonzero(column / window, position / shape.kernel - shape.padding,
                         position % shape.kernel - shape.padding);
    }
    forward.EndRow();
  }
  std::unique_ptr<KernelSparseConvolution> convolution(
      new KernelSparseConvolution(std::move(forward), pool->threads()));
  if (!input_gradient) return convolution;
  const tensor::TransposedTopology transposed = tensor::Transpose(topology);
  convolution->permutation_.reserve(topology.nnz());
  for (int64_t phase = 0; phase < shape.stride * shape.stride; ++phase) {
    const int64_t phase_row = phase / shape.stride;
    const int64_t phase_col = phase % shape.stride;
    ShiftedProduct product(BackwardGeometry(shape, phase_row, phase_col), stride, pool, isa);
    if (!product.fits()) return TooLarge(shape);
    AddPhase(shape, transposed, phase_row, phase_col, product, convolution->permutation_);
    convolution->backward_.push_back(std::move(product));
  }
  return convolution;
}

void KernelSparseConvolution::Forward(const float* values, const float* x, int64_t width,
                                      float* y) {
  forward_.Multiply(values, x, width, y);
}

void KernelSparseConvolution::InputGradient(const float* values, const float* dy, int64_t width,
                                            float* dx, float* scratch) {
  ParallelRows(threads_, static_cast<int64_t>(permutation_.size()), [&](RowRange range) {
    for (int64_t k = range.begin; k < range.end; ++k) scratch[k] = values[permutation_[k]];
  });
  for (const ShiftedProduct& phase : backward_) {
    phase.Multiply(scratch, dy, width, dx);
    scratch += phase.nnz();
  }
}

void KernelSparseConvolution::WeightGradient(const float* dy, const float* x, int64_t width,
                                             float* gradient) {
  forward_.Gradient(dy, x, width, gradient);
}

}  // namespace espalier::worker::engine
