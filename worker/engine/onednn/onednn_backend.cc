#include "worker/engine/onednn/onednn_backend.h"

#include <array>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/kernels/sparse_convolution.h"
#include "worker/engine/kernels/sparse_product.h"
#include "worker/engine/onednn/context.h"
#include "worker/engine/onednn/convolution.h"
#include "worker/engine/onednn/guard.h"
#include "worker/engine/onednn/matmul.h"
#include "worker/engine/reference/reference_backend.h"
#include "worker/engine/reference/reference_math.h"

namespace espalier::worker::engine {
namespace {

using dnnl::memory;
using onednn::Guard;
using onednn::InputHandle;
using onednn::MatrixDesc;
using onednn::Report;
using onednn::ThreadScope;

class OneDnnCsrProduct final : public SparseProduct {
 public:
  OneDnnCsrProduct(std::shared_ptr<const tensor::Topology> topology, int64_t stride, int threads)
      : topology_(topology),
        stride_(stride),
        threads_(threads),
        engine_(dnnl::engine::kind::cpu, 0),
        stream_(engine_),
        gradient_(topology, stride, threads, DetectIsa()) {
    const tensor::Topology& t = *topology_;
    const auto f32 = memory::data_type::f32;
    const auto s32 = memory::data_type::s32;
    const memory::desc w_desc = memory::desc::csr({t.rows(), t.cols()}, f32, t.nnz(), s32, s32);
    const memory::desc x_desc = MatrixDesc(t.cols(), stride, false, stride);
    const memory::desc y_desc = MatrixDesc(t.rows(), stride, false, stride);
    w_ = memory(w_desc, engine_,
                {DNNL_MEMORY_NONE, const_cast<int32_t*>(t.columns().data()),
                 const_cast<int32_t*>(t.row_offsets().data())});
    x_ = memory(x_desc, engine_, DNNL_MEMORY_NONE);
    y_ = memory(y_desc, engine_, DNNL_MEMORY_NONE);
    primitive_ = dnnl::matmul(dnnl::matmul::primitive_desc(engine_, w_desc, x_desc, y_desc));
  }

  void Multiply(const float* values, const float* x, int64_t, float* y) override {
    const ThreadScope scope(threads_);
    const absl::Status status = Guard(OneDnnStep::kExecute, "run a CSR matmul", [&] {
      w_.set_data_handle(InputHandle(values), 0);
      x_.set_data_handle(InputHandle(x));
      y_.set_data_handle(y);
      primitive_.execute(stream_, {{DNNL_ARG_SRC, w_}, {DNNL_ARG_WEIGHTS, x_}, {DNNL_ARG_DST, y_}});
      stream_.wait();
    });
    if (status.ok()) return;
    Report(status);
    reference::Multiply(*topology_, values, x, stride_, stride_, y);
  }

  void Gradient(const float* dy, const float* x, int64_t width, float* gradient) override {
    gradient_.Gradient(dy, x, width, gradient);
  }

 private:
  std::shared_ptr<const tensor::Topology> topology_;
  int64_t stride_;
  int threads_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  memory w_;
  memory x_;
  memory y_;
  dnnl::matmul primitive_;
  KernelSparseProduct gradient_;
};

// What the library does not do, the reference does: slowly, and with other last bits.
class OneDnnBackend final : public Backend {
 public:
  explicit OneDnnBackend(int threads)
      : threads_(threads),
        panels_(std::make_shared<PanelPool>(threads)),
        reference_(MakeReferenceBackend()) {
    Try(OneDnnStep::kCreate, "start",
        [&] { context_ = std::make_unique<onednn::Context>(threads); });
  }

  absl::StatusOr<std::unique_ptr<SparseProduct>> PlanSparse(
      std::shared_ptr<const tensor::Topology> topology, int64_t stride) override {
    return std::make_unique<KernelSparseProduct>(std::move(topology), stride, threads_,
                                                 DetectIsa());
  }

  absl::StatusOr<std::unique_ptr<SparseConvolution>> PlanSparseConvolution(
      std::shared_ptr<const tensor::Topology> topology, const ConvShape& shape, int64_t stride,
      bool input_gradient) override {
    return KernelSparseConvolution::Create(*topology, shape, stride, input_gradient, panels_,
                                           DetectIsa());
  }

  absl::Status PlanConvolution(const ConvProblem& problem) override {
    if (convolutions_.contains(problem)) return absl::OkStatus();
    auto plan = Plan<onednn::Convolution>(problem, "plan a convolution");
    if (plan == nullptr) ESPALIER_RETURN_IF_ERROR(reference_->PlanConvolution(problem));
    convolutions_.emplace(problem, std::move(plan));
    return absl::OkStatus();
  }

  void Convolve(const ConvProblem& problem, const float* a, const float* b, float* c) override {
    const absl::Status planned = PlanConvolution(problem);
    ESPALIER_CHECK(planned.ok(), base::MessageOf(planned).c_str());
    if (!Runs(convolutions_.at(problem), "run a convolution", a, b, c)) {
      reference_->Convolve(problem, a, b, c);
    }
  }

  absl::Status PlanGemm(const GemmShape& shape) override {
    if (!products_.contains(shape)) {
      products_.emplace(shape, Plan<onednn::Matmul>(shape, "plan a matmul"));
    }
    return absl::OkStatus();
  }

  void Gemm(const GemmShape& shape, const float* a, const float* b, float* c) override {
    const absl::Status planned = PlanGemm(shape);
    ESPALIER_CHECK(planned.ok(), base::MessageOf(planned).c_str());
    if (!Runs(products_.at(shape), "run a matmul", a, b, c)) reference_->Gemm(shape, a, b, c);
  }

 private:
  // Whether the library did it.
  template <typename Body>
  bool Try(OneDnnStep step, const char* what, const Body& body) {
    const absl::Status status = Guard(step, what, body);
    if (!status.ok()) Report(status);
    return status.ok();
  }

  // Null when the library cannot.
  template <typename Product, typename Shape>
  std::unique_ptr<Product> Plan(const Shape& shape, const char* what) {
    std::unique_ptr<Product> product;
    Try(OneDnnStep::kCreate, what, [&] {
      if (context_ == nullptr) throw dnnl::error(dnnl_runtime_error, "it did not start");
      product = std::make_unique<Product>(shape, *context_);
    });
    return product;
  }

  // Whether the library did it; when it fails it is not asked again.
  template <typename Product>
  bool Runs(std::unique_ptr<Product>& product, const char* what, const float* a, const float* b,
            float* c) {
    if (product == nullptr) return false;
    if (Try(OneDnnStep::kExecute, what, [&] { product->Run(a, b, c); })) return true;
    product = nullptr;
    return false;
  }

  int threads_;
  std::shared_ptr<PanelPool> panels_;
  std::unique_ptr<Backend> reference_;
  // Null: the library did not start.
  std::unique_ptr<onednn::Context> context_;
  // Null: the reference's.
  std::map<GemmShape, std::unique_ptr<onednn::Matmul>> products_;
  std::map<ConvProblem, std::unique_ptr<onednn::Convolution>> convolutions_;
};

}  // namespace

std::unique_ptr<Backend> MakeOneDnnBackend(int threads) {
  return std::make_unique<OneDnnBackend>(threads);
}

absl::StatusOr<std::unique_ptr<SparseProduct>> MakeOneDnnCsrProduct(
    std::shared_ptr<const tensor::Topology> topology, int64_t stride, int threads) {
  const ThreadScope scope(threads);
  std::unique_ptr<SparseProduct> product;
  ESPALIER_RETURN_IF_ERROR(Guard(OneDnnStep::kCreate, "plan a CSR matmul", [&] {
    product = std::make_unique<OneDnnCsrProduct>(std::move(topology), stride, threads);
  }));
  return product;
}

absl::StatusOr<std::function<void()>> MakeOneDnnBlockedConvolution(const ConvProblem& problem,
                                                                   int threads) {
  const ThreadScope scope(threads);
  std::function<void()> run;
  ESPALIER_RETURN_IF_ERROR(Guard(OneDnnStep::kCreate, "plan a convolution", [&] {
    auto context = std::make_shared<onednn::Context>(1);
    auto whole = std::make_shared<onednn::ConvolutionPart>(problem, context->engine, std::nullopt);
    context->ReserveScratch(1, whole->scratch());
    auto buffers = std::make_shared<std::array<AlignedBuffer, 3>>();
    for (int i = 0; i < 3; ++i) (*buffers)[i] = AlignedBuffer(onednn::Floats(whole->inner(i)));
    run = [context, whole, buffers, threads] {
      const ThreadScope inner(threads);
      whole->Execute(context->thread[0],
                     {(*buffers)[0].data(), (*buffers)[1].data(), (*buffers)[2].data()});
      context->thread[0].stream.wait();
    };
  }));
  return run;
}

}  // namespace espalier::worker::engine
