// WeightMatrix of convolutions.
#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "worker/engine/weight_matrix.h"

namespace espalier::worker::engine {
namespace {

using Pass = ConvProblem::Pass;

// Floats of a tile of FullGradient(), 1 MiB, unless one row is longer.
constexpr int64_t kTileFloats = 256 << 10;

class SparseConvolutionMatrix final : public WeightMatrix {
 public:
  SparseConvolutionMatrix(Backend& backend, std::unique_ptr<SparseConvolution> convolution,
                          const ConvShape& shape, int64_t nnz)
      : backend_(backend), convolution_(std::move(convolution)), shape_(shape), nnz_(nnz) {}

  int64_t scratch() const override { return std::max(nnz_, convolution_->scratch()); }

  void Forward(const float* values, const float* x, Extent extent, float* y) override {
    convolution_->Forward(values, x, extent.width, y);
  }

  void InputGradient(const float* values, const float* dy, Extent extent, float* dx,
                     float* scratch) override {
    convolution_->InputGradient(values, dy, extent.width, dx, scratch);
  }

  void WeightGradient(const float* dy, const float* x, Extent extent, float* scratch,
                      const GradientSink& sink) override {
    convolution_->WeightGradient(dy, x, extent.width, scratch);
    sink(0, std::span<const float>(scratch, nnz_));
  }

  void FullGradient(const float* dy, const float* x, int64_t stride, int64_t width,
                    const TileSink& sink) override {
    const int64_t cols = shape_.cols();
    const int64_t most = std::min(shape_.out_channels, std::max<int64_t>(1, kTileFloats / cols));
    AlignedBuffer tile(most * cols);
    const int64_t positions = shape_.out_height() * shape_.out_width();
    for (int64_t row = 0; row < shape_.out_channels; row += most) {
      ConvProblem problem = {Pass::kWeightGradient, shape_, width, stride};
      problem.shape.out_channels = std::min(most, shape_.out_channels - row);
      backend_.Convolve(problem, dy + row * positions * stride, x, tile.data());
      const int64_t rows = problem.shape.out_channels;
      sink({row, 0, rows, cols, tile.span().first(rows * cols)});
    }
  }

 private:
  Backend& backend_;
  std::unique_ptr<SparseConvolution> convolution_;
  ConvShape shape_;
  int64_t nnz_;
};

class DenseConvolutionMatrix final : public WeightMatrix {
 public:
  DenseConvolutionMatrix(Backend& backend, const ConvShape& shape, int64_t stride)
      : backend_(backend), shape_(shape), stride_(stride) {}

  absl::Status Plan(bool input_gradient, Extent extent) {
    ESPALIER_RETURN_IF_ERROR(backend_.PlanConvolution(Problem(Pass::kForward, extent)));
    if (input_gradient) {
      ESPALIER_RETURN_IF_ERROR(backend_.PlanConvolution(Problem(Pass::kInputGradient, extent)));
    }
    return backend_.PlanConvolution(Problem(Pass::kWeightGradient, extent));
  }

  // The whole gradient: dense weights are as large themselves, and it comes out of one product.
  int64_t scratch() const override { return shape_.out_channels * shape_.cols(); }

  void Forward(const float* values, const float* x, Extent extent, float* y) override {
    backend_.Convolve(Problem(Pass::kForward, extent), values, x, y);
  }

  void InputGradient(const float* values, const float* dy, Extent extent, float* dx,
                     float*) override {
    backend_.Convolve(Problem(Pass::kInputGradient, extent), values, dy, dx);
  }

  void WeightGradient(const float* dy, const float* x, Extent extent, float* scratch,
                      const GradientSink& sink) override {
    backend_.Convolve(Problem(Pass::kWeightGradient, extent), dy, x, scratch);
    sink(0, std::span<const float>(scratch, this->scratch()));
  }

  void FullGradient(const float*, const float*, int64_t, int64_t, const TileSink&) override {
    ESPALIER_CHECK(false, "dense weights do not grow");
  }

 private:
  ConvProblem Problem(Pass pass, Extent extent) const {
    return {pass, shape_, extent.width, stride_};
  }

  Backend& backend_;
  ConvShape shape_;
  int64_t stride_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightMatrix>> MakeSparseConvolution(
    Backend& backend, std::shared_ptr<const tensor::Topology> topology, const ConvShape& shape,
    int64_t stride, bool input_gradient) {
  const int64_t nnz = topology->nnz();
  ESPALIER_ASSIGN_OR_RETURN(
      auto convolution,
      backend.PlanSparseConvolution(std::move(topology), shape, stride, input_gradient));
  return std::make_unique<SparseConvolutionMatrix>(backend, std::move(convolution), shape, nnz);
}

absl::StatusOr<std::unique_ptr<WeightMatrix>> MakeDenseConvolution(Backend& backend,
                                                                   const ConvShape& shape,
                                                                   int64_t stride,
                                                                   bool input_gradient,
                                                                   Extent max_extent) {
  auto matrix = std::make_unique<DenseConvolutionMatrix>(backend, shape, stride);
  ESPALIER_RETURN_IF_ERROR(matrix->Plan(input_gradient, max_extent));
  return matrix;
}

}  // namespace espalier::worker::engine
