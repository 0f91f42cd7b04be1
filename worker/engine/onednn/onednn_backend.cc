#include "worker/engine/onednn/onednn_backend.h"

#include <omp.h>

#include <map>
#include <oneapi/dnnl/dnnl.hpp>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "worker/engine/kernels/sparse_product.h"

namespace espalier::worker::engine {
namespace {

using dnnl::memory;

// oneDNN takes its number of threads from OpenMP, both when a primitive is made and when it runs.
class ThreadScope {
 public:
  explicit ThreadScope(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ~ThreadScope() { omp_set_num_threads(before_); }
  ThreadScope(const ThreadScope&) = delete;
  ThreadScope& operator=(const ThreadScope&) = delete;

 private:
  int before_;
};

// Runs `body`, the only place where oneDNN's exceptions are caught.
template <typename Body>
absl::Status Guard(const char* what, const Body& body) {
  try {
    body();
    return absl::OkStatus();
  } catch (const dnnl::error& error) {
    return base::MakeError(absl::StatusCode::kInternal, "ONEDNN",
                           std::string("oneDNN failed to ") + what + ": " + error.what());
  }
}

memory::desc MatrixDesc(int64_t rows, int64_t cols, bool transposed, int64_t ld) {
  const memory::dims strides = transposed ? memory::dims{1, ld} : memory::dims{ld, 1};
  return {{rows, cols}, memory::data_type::f32, strides};
}

// A matmul with the memory objects it runs on; only their pointers change between runs.
struct GemmPlan {
  GemmPlan(const GemmShape& s, const dnnl::engine& engine)
      : primitive(dnnl::matmul::primitive_desc(engine, MatrixDesc(s.m, s.k, s.transpose_a, s.lda),
                                               MatrixDesc(s.k, s.n, s.transpose_b, s.ldb),
                                               MatrixDesc(s.m, s.n, false, s.ldc))),
        a(MatrixDesc(s.m, s.k, s.transpose_a, s.lda), engine, DNNL_MEMORY_NONE),
        b(MatrixDesc(s.k, s.n, s.transpose_b, s.ldb), engine, DNNL_MEMORY_NONE),
        c(MatrixDesc(s.m, s.n, false, s.ldc), engine, DNNL_MEMORY_NONE) {}

  dnnl::matmul primitive;
  memory a;
  memory b;
  memory c;
};

// oneDNN never writes through the handles of its inputs.
void* InputHandle(const float* data) { return const_cast<float*>(data); }

class OneDnnCsrProduct final : public SparseProduct {
 public:
  OneDnnCsrProduct(std::shared_ptr<const tensor::Topology> topology, int64_t stride, int threads)
      : topology_(topology),
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
    const absl::Status status = Guard("run a CSR matmul", [&] {
      w_.set_data_handle(InputHandle(values), 0);
      x_.set_data_handle(InputHandle(x));
      y_.set_data_handle(y);
      primitive_.execute(stream_, {{DNNL_ARG_SRC, w_}, {DNNL_ARG_WEIGHTS, x_}, {DNNL_ARG_DST, y_}});
      stream_.wait();
    });
    ESPALIER_CHECK(status.ok(), base::MessageOf(status).c_str());
  }

  void Gradient(const float* dy, const float* x, int64_t width, float* gradient) override {
    gradient_.Gradient(dy, x, width, gradient);
  }

 private:
  std::shared_ptr<const tensor::Topology> topology_;
  int threads_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  memory w_;
  memory x_;
  memory y_;
  dnnl::matmul primitive_;
  KernelSparseProduct gradient_;
};

class OneDnnBackend final : public Backend {
 public:
  explicit OneDnnBackend(int threads)
      : threads_(threads), engine_(dnnl::engine::kind::cpu, 0), stream_(engine_) {}

  absl::StatusOr<std::unique_ptr<SparseProduct>> PlanSparse(
      std::shared_ptr<const tensor::Topology> topology, int64_t stride) override {
    return std::make_unique<KernelSparseProduct>(std::move(topology), stride, threads_,
                                                 DetectIsa());
  }

  absl::Status PlanGemm(const GemmShape& shape) override {
    if (plans_.contains(shape)) return absl::OkStatus();
    const ThreadScope scope(threads_);
    return Guard("plan a matmul", [&] { plans_.try_emplace(shape, shape, engine_); });
  }

  void Gemm(const GemmShape& shape, const float* a, const float* b, float* c) override {
    const ThreadScope scope(threads_);
    absl::Status status = PlanGemm(shape);
    ESPALIER_CHECK(status.ok(), base::MessageOf(status).c_str());
    GemmPlan& plan = plans_.at(shape);
    status = Guard("run a matmul", [&] {
      plan.a.set_data_handle(InputHandle(a));
      plan.b.set_data_handle(InputHandle(b));
      plan.c.set_data_handle(c);
      plan.primitive.execute(
          stream_, {{DNNL_ARG_SRC, plan.a}, {DNNL_ARG_WEIGHTS, plan.b}, {DNNL_ARG_DST, plan.c}});
      stream_.wait();
    });
    ESPALIER_CHECK(status.ok(), base::MessageOf(status).c_str());
  }

 private:
  int threads_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  std::map<GemmShape, GemmPlan> plans_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Backend>> MakeOneDnnBackend(int threads) {
  std::unique_ptr<Backend> backend;
  ESPALIER_RETURN_IF_ERROR(
      Guard("start", [&] { backend = std::make_unique<OneDnnBackend>(threads); }));
  return backend;
}

absl::StatusOr<std::unique_ptr<SparseProduct>> MakeOneDnnCsrProduct(
    std::shared_ptr<const tensor::Topology> topology, int64_t stride, int threads) {
  const ThreadScope scope(threads);
  std::unique_ptr<SparseProduct> product;
  ESPALIER_RETURN_IF_ERROR(Guard("plan a CSR matmul", [&] {
    product = std::make_unique<OneDnnCsrProduct>(std::move(topology), stride, threads);
  }));
  return product;
}

}  // namespace espalier::worker::engine
