#include "worker/engine/reference/reference_backend.h"

#include <utility>

#include "common/base/check.h"
#include "worker/engine/reference/reference_math.h"

namespace espalier::worker::engine {
namespace {

class ReferenceProduct final : public SparseProduct {
 public:
  ReferenceProduct(std::shared_ptr<const tensor::Topology> topology, int64_t stride)
      : topology_(std::move(topology)), stride_(stride) {}

  void Multiply(const float* values, const float* x, int64_t width, float* y) override {
    reference::Multiply(*topology_, values, x, stride_, width, y);
  }
  void Gradient(const float* dy, const float* x, int64_t width, float* gradient) override {
    reference::SampledProduct(*topology_, dy, x, stride_, width, gradient);
  }

 private:
  std::shared_ptr<const tensor::Topology> topology_;
  int64_t stride_;
};

class ReferenceConvolution final : public SparseConvolution {
 public:
  ReferenceConvolution(std::shared_ptr<const tensor::Topology> topology, const ConvShape& shape,
                       int64_t stride)
      : topology_(std::move(topology)), shape_(shape), stride_(stride) {}

  int64_t scratch() const override { return 0; }
  void Forward(const float* values, const float* x, int64_t width, float* y) override {
    reference::Convolve(*topology_, shape_, values, x, stride_, width, y);
  }
  void InputGradient(const float* values, const float* dy, int64_t width, float* dx,
                     float*) override {
    reference::ConvolveTransposed(*topology_, shape_, values, dy, stride_, width, dx);
  }
  void WeightGradient(const float* dy, const float* x, int64_t width, float* gradient) override {
    reference::SampledConvolution(*topology_, shape_, dy, x, stride_, width, gradient);
  }

 private:
  std::shared_ptr<const tensor::Topology> topology_;
  ConvShape shape_;
  int64_t stride_;
};

class ReferenceBackend final : public Backend {
 public:
  absl::StatusOr<std::unique_ptr<SparseProduct>> PlanSparse(
      std::shared_ptr<const tensor::Topology> topology, int64_t stride) override {
    return std::make_unique<ReferenceProduct>(std::move(topology), stride);
  }

  absl::StatusOr<std::unique_ptr<SparseConvolution>> PlanSparseConvolution(
      std::shared_ptr<const tensor::Topology> topology, const ConvShape& shape, int64_t stride,
      bool) override {
    return std::make_unique<ReferenceConvolution>(std::move(topology), shape, stride);
  }

  absl::Status PlanConvolution(const ConvProblem& problem) override {
    return tensor::Topology::Full(problem.shape.out_channels, problem.shape.cols()).status();
  }

  void Convolve(const ConvProblem& p, const float* a, const float* b, float* c) override {
    const auto full = tensor::Topology::Full(p.shape.out_channels, p.shape.cols());
    ESPALIER_CHECK(full.ok(), "the problem was planned");
    if (p.pass == ConvProblem::Pass::kForward) {
      reference::Convolve(*full, p.shape, a, b, p.stride, p.examples, c);
    } else if (p.pass == ConvProblem::Pass::kInputGradient) {
      reference::ConvolveTransposed(*full, p.shape, a, b, p.stride, p.examples, c);
    } else {
      reference::SampledConvolution(*full, p.shape, a, b, p.stride, p.examples, c);
    }
  }

  absl::Status PlanGemm(const GemmShape&) override { return absl::OkStatus(); }

  void Gemm(const GemmShape& s, const float* a, const float* b, float* c) override {
    for (int64_t i = 0; i < s.m; ++i) {
      for (int64_t j = 0; j < s.n; ++j) {
        float sum = 0;
        for (int64_t k = 0; k < s.k; ++k) {
          sum += (s.transpose_a ? a[k * s.lda + i] : a[i * s.lda + k]) *
                 (s.transpose_b ? b[j * s.ldb + k] : b[k * s.ldb + j]);
        }
        c[i * s.ldc + j] = sum;
      }
    }
  }
};

}  // namespace

std::unique_ptr<Backend> MakeReferenceBackend() { return std::make_unique<ReferenceBackend>(); }

}  // namespace espalier::worker::engine
