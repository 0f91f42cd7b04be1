#include "worker/engine/reference/reference_backend.h"

#include <utility>

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

class ReferenceBackend final : public Backend {
 public:
  absl::StatusOr<std::unique_ptr<SparseProduct>> PlanSparse(
      std::shared_ptr<const tensor::Topology> topology, int64_t stride) override {
    return std::make_unique<ReferenceProduct>(std::move(topology), stride);
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
