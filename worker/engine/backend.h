// Backend: the matrix products and convolutions a network is made of.
//
// Shapes:      all matrices are row-major float32; activations feature-major [features][stride].
// Ownership:   all pointers are borrowed for the call. Plans keep the topology alive.
// Threading:   one caller at a time per backend and its plans; products use up to `threads`
//              threads.
// Determinism: same inputs give the same bits, whatever the number of threads.
// Errors:      planning returns a Status; products cannot fail once planned. Nothing throws.
#pragma once

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tensor/topology.h"
#include "worker/engine/conv_shape.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

// C [m × n] = op(A) [m × k] · op(B) [k × n]; op transposes where asked. ld* is the distance between
// rows as stored.
struct GemmShape {
  bool transpose_a = false;
  bool transpose_b = false;
  int64_t m = 0;
  int64_t n = 0;
  int64_t k = 0;
  int64_t lda = 0;
  int64_t ldb = 0;
  int64_t ldc = 0;
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 trips over the defaulted comparison.
  friend auto operator<=>(const GemmShape&, const GemmShape&) = default;
};

// Products with one sparse matrix W of fixed structure. `width` is a number of examples, a multiple
// of kLanes and at most the stride; values follow topology order.
class SparseProduct {
 public:
  virtual ~SparseProduct() = default;
  // Y [rows][stride] = W · X [cols][stride], for the first `width` examples. Others of Y are
  // unspecified.
  virtual void Multiply(const float* values, const float* x, int64_t width, float* y) = 0;
  // gradient[k] = Σ_b dY[row of k][b] · X[column of k][b] over the first `width` examples.
  virtual void Gradient(const float* dy, const float* x, int64_t width, float* gradient) = 0;
};

// Products of a convolution with one sparse weight W of fixed structure. Activations are
// [channels][height][width][stride], widths and values as in SparseProduct.
class SparseConvolution {
 public:
  virtual ~SparseConvolution() = default;
  // Floats of scratch memory that InputGradient() needs.
  virtual int64_t scratch() const = 0;
  // Y = W ∗ X.
  virtual void Forward(const float* values, const float* x, int64_t width, float* y) = 0;
  // dX, the gradient with respect to X given that with respect to Y.
  virtual void InputGradient(const float* values, const float* dy, int64_t width, float* dx,
                             float* scratch) = 0;
  // Gradient with respect to the stored values.
  virtual void WeightGradient(const float* dy, const float* x, int64_t width, float* gradient) = 0;
};

// A product of a convolution with dense weights, for `examples` examples at distance `stride`.
struct ConvProblem {
  enum class Pass { kForward, kInputGradient, kWeightGradient };
  Pass pass = Pass::kForward;
  ConvShape shape;
  int64_t examples = 0;
  int64_t stride = 0;
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 trips over the defaulted comparison.
  friend auto operator<=>(const ConvProblem&, const ConvProblem&) = default;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual absl::StatusOr<std::unique_ptr<SparseProduct>> PlanSparse(
      std::shared_ptr<const tensor::Topology> topology, int64_t stride) = 0;
  // `input_gradient`: whether InputGradient() will be called.
  virtual absl::StatusOr<std::unique_ptr<SparseConvolution>> PlanSparseConvolution(
      std::shared_ptr<const tensor::Topology> topology, const ConvShape& shape, int64_t stride,
      bool input_gradient) = 0;
  // Makes sure that Gemm() can run this shape.
  virtual absl::Status PlanGemm(const GemmShape& shape) = 0;
  virtual void Gemm(const GemmShape& shape, const float* a, const float* b, float* c) = 0;
  // Makes sure that Convolve() can run this problem.
  virtual absl::Status PlanConvolution(const ConvProblem& problem) = 0;
  // kForward:        c = Y of a = W and b = X.
  // kInputGradient:  c = dX of a = W and b = dY.
  // kWeightGradient: c = dW of a = dY and b = X.
  virtual void Convolve(const ConvProblem& problem, const float* a, const float* b, float* c) = 0;
};

}  // namespace espalier::worker::engine
