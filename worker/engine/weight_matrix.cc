#include "worker/engine/weight_matrix.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

// A tile of FullGradient() of a linear layer.
constexpr int64_t kFullTileRows = 64;
constexpr int64_t kFullTileCols = 4096;

class SparseMatrix final : public WeightMatrix {
 public:
  SparseMatrix(Backend& backend, std::shared_ptr<const tensor::Topology> topology,
               std::unique_ptr<SparseProduct> forward, std::unique_ptr<SparseProduct> transposed,
               std::vector<int32_t> permutation, int threads)
      : backend_(backend),
        forward_(std::move(forward)),
        transposed_(std::move(transposed)),
        permutation_(std::move(permutation)),
        rows_(topology->rows()),
        cols_(topology->cols()),
        nnz_(topology->nnz()),
        threads_(threads) {}

  int64_t scratch() const override { return nnz_; }

  void Forward(const float* values, const float* x, Extent extent, float* y) override {
    forward_->Multiply(values, x, extent.width, y);
  }

  void InputGradient(const float* values, const float* dy, Extent extent, float* dx,
                     float* scratch) override {
    ParallelRows(threads_, nnz_, [&](RowRange range) {
      for (int64_t k = range.begin; k < range.end; ++k) scratch[k] = values[permutation_[k]];
    });
    transposed_->Multiply(scratch, dy, extent.width, dx);
  }

  void WeightGradient(const float* dy, const float* x, Extent extent, float* scratch,
                      const GradientSink& sink) override {
    forward_->Gradient(dy, x, extent.width, scratch);
    sink(0, std::span<const float>(scratch, nnz_));
  }

  void FullGradient(const float* dy, const float* x, int64_t stride, int64_t width,
                    const TileSink& sink) override {
    AlignedBuffer tile(kFullTileRows * std::min(kFullTileCols, cols_));
    for (int64_t row = 0; row < rows_; row += kFullTileRows) {
      for (int64_t col = 0; col < cols_; col += kFullTileCols) {
        const int64_t rows = std::min(kFullTileRows, rows_ - row);
        const int64_t cols = std::min(kFullTileCols, cols_ - col);
        backend_.Gemm({.transpose_b = true,
                       .m = rows,
                       .n = cols,
                       .k = width,
                       .lda = stride,
                       .ldb = stride,
                       .ldc = cols},
                      dy + row * stride, x + col * stride, tile.data());
        sink({row, col, rows, cols, tile.span().first(rows * cols)});
      }
    }
  }

 private:
  Backend& backend_;
  std::unique_ptr<SparseProduct> forward_;
  std::unique_ptr<SparseProduct> transposed_;  // null in a first layer
  std::vector<int32_t> permutation_;
  int64_t rows_;
  int64_t cols_;
  int64_t nnz_;
  int threads_;
};

// Floats of a tile of the dense gradient: it stays in the second-level cache until it is consumed.
constexpr int64_t kTileFloats = 128 << 10;
constexpr int64_t kMinTileRows = 16;

class DenseMatrix final : public WeightMatrix {
 public:
  DenseMatrix(Backend& backend, int64_t outputs, int64_t inputs, int64_t stride)
      : backend_(backend),
        outputs_(outputs),
        inputs_(inputs),
        stride_(stride),
        tile_rows_(std::min(outputs, std::max(kMinTileRows, kTileFloats / inputs))) {}

  absl::Status Plan(bool input_gradient, Extent extent) {
    ESPALIER_RETURN_IF_ERROR(backend_.PlanGemm(ForwardShape(extent)));
    if (input_gradient) ESPALIER_RETURN_IF_ERROR(backend_.PlanGemm(InputShape(extent)));
    return backend_.PlanGemm(WeightShape(extent, tile_rows_));
  }

  int64_t scratch() const override { return tile_rows_ * inputs_; }

  void Forward(const float* values, const float* x, Extent extent, float* y) override {
    backend_.Gemm(ForwardShape(extent), values, x, y);
  }

  void InputGradient(const float* values, const float* dy, Extent extent, float* dx,
                     float*) override {
    backend_.Gemm(InputShape(extent), values, dy, dx);
  }

  void WeightGradient(const float* dy, const float* x, Extent extent, float* scratch,
                      const GradientSink& sink) override {
    for (int64_t row = 0; row < outputs_; row += tile_rows_) {
      const int64_t rows = std::min(tile_rows_, outputs_ - row);
      backend_.Gemm(WeightShape(extent, rows), dy + row * stride_, x, scratch);
      sink(row * inputs_, std::span<const float>(scratch, rows * inputs_));
    }
  }

  void FullGradient(const float*, const float*, int64_t, int64_t, const TileSink&) override {
    ESPALIER_CHECK(false, "dense weights do not grow");
  }

 private:
  GemmShape ForwardShape(Extent extent) const {
    return {.m = outputs_,
            .n = extent.width,
            .k = inputs_,
            .lda = inputs_,
            .ldb = stride_,
            .ldc = stride_};
  }
  GemmShape InputShape(Extent extent) const {
    return {.transpose_a = true,
            .m = inputs_,
            .n = extent.width,
            .k = outputs_,
            .lda = inputs_,
            .ldb = stride_,
            .ldc = stride_};
  }
  GemmShape WeightShape(Extent extent, int64_t rows) const {
    return {.transpose_b = true,
            .m = rows,
            .n = inputs_,
            .k = extent.size,
            .lda = stride_,
            .ldb = stride_,
            .ldc = inputs_};
  }

  Backend& backend_;
  int64_t outputs_;
  int64_t inputs_;
  int64_t stride_;
  int64_t tile_rows_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightMatrix>> MakeSparseMatrix(
    Backend& backend, std::shared_ptr<const tensor::Topology> topology, int64_t stride,
    bool input_gradient, int threads) {
  std::unique_ptr<SparseProduct> transposed_product;
  std::vector<int32_t> permutation;
  if (input_gradient) {
    tensor::TransposedTopology transposed = tensor::Transpose(*topology);
    permutation = std::move(transposed.permutation);
    ESPALIER_ASSIGN_OR_RETURN(
        transposed_product,
        backend.PlanSparse(std::make_shared<const tensor::Topology>(std::move(transposed.topology)),
                           stride));
  }
  ESPALIER_ASSIGN_OR_RETURN(auto product, backend.PlanSparse(topology, stride));
  return std::make_unique<SparseMatrix>(backend, std::move(topology), std::move(product),
                                        std::move(transposed_product), std::move(permutation),
                                        threads);
}

absl::StatusOr<std::unique_ptr<WeightMatrix>> MakeDenseMatrix(Backend& backend, int64_t outputs,
                                                              int64_t inputs, int64_t stride,
                                                              bool input_gradient,
                                                              Extent max_extent) {
  auto matrix = std::make_unique<DenseMatrix>(backend, outputs, inputs, stride);
  ESPALIER_RETURN_IF_ERROR(matrix->Plan(input_gradient, max_extent));
  return matrix;
}

}  // namespace espalier::worker::engine
