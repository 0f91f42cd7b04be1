#include "worker/engine/onednn/onednn_backend.h"

#include <omp.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <oneapi/dnnl/dnnl.hpp>
#include <string_view>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/kernels/sparse_convolution.h"
#include "worker/engine/kernels/sparse_product.h"
#include "worker/engine/reference/reference_backend.h"
#include "worker/engine/reference/reference_math.h"

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

// Calls of the library that are to fail, see FailOneDnnFrom(); 0: none.
struct FaultPlan {
  std::array<std::atomic<int64_t>, 2> first = {0, 0};
  std::array<std::atomic<int64_t>, 2> calls = {0, 0};

  void Set(OneDnnStep step, int64_t call) {
    calls[static_cast<size_t>(step)] = 0;
    first[static_cast<size_t>(step)] = call;
  }
  bool Fails(OneDnnStep step) {
    const int64_t from = first[static_cast<size_t>(step)];
    return from > 0 && ++calls[static_cast<size_t>(step)] >= from;
  }
};

// ESPALIER_FAULT_ONEDNN is "create:N" or "execute:N".
void ReadFaultVariable(FaultPlan& plan) {
  const char* text = std::getenv("ESPALIER_FAULT_ONEDNN");
  if (text == nullptr) return;
  const std::string_view given = text;
  for (const auto& [word, step] :
       {std::pair<std::string_view, OneDnnStep>{"create:", OneDnnStep::kCreate},
        {"execute:", OneDnnStep::kExecute}}) {
    if (given.starts_with(word)) plan.Set(step, std::atoll(text + word.size()));
  }
}

FaultPlan& Faults() {
  static FaultPlan& plan = *[] {
    auto* made = new FaultPlan;
    ReadFaultVariable(*made);
    return made;
  }();
  return plan;
}

std::mutex observer_mutex;
std::function<void(const std::string&)>& Observer() {
  static auto& observer = *new std::function<void(const std::string&)>;
  return observer;
}

void Report(const absl::Status& failure) {
  const std::lock_guard lock(observer_mutex);
  if (Observer()) Observer()(base::MessageOf(failure));
}

// Runs `body`, the only place where oneDNN's exceptions are caught. Too little memory is
// std::bad_alloc, as everywhere in the engine.
template <typename Body>
absl::Status Guard(OneDnnStep step, const char* what, const Body& body) {
  try {
    if (Faults().Fails(step)) throw dnnl::error(dnnl_unimplemented, "a fault was asked for");
    body();
    return absl::OkStatus();
  } catch (const dnnl::error& error) {
    if (error.status == dnnl_out_of_memory) throw std::bad_alloc();
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

// A convolution with its conversions between our layout, examples innermost, and the blocked one in
// which the library is fast. Conversions cost two passes over memory that is read and written
// anyway; run in our layout, the library falls back to loops that are hundreds of times slower.
class ConvPlan {
 public:
  ConvPlan(const ConvProblem& p, const dnnl::engine& engine) : engine_(engine) {
    const ConvShape& s = p.shape;
    const auto map_desc = [&](int64_t channels, int64_t height, int64_t width) {
      const memory::dims dims = {p.examples, channels, height, width};
      const memory::dims strides = {1, height * width * p.stride, width * p.stride, p.stride};
      return memory::desc(dims, memory::data_type::f32, strides);
    };
    const memory::desc x = map_desc(s.in_channels, s.in_height, s.in_width);
    const memory::desc y = map_desc(s.out_channels, s.out_height(), s.out_width());
    const memory::desc w({s.out_channels, s.in_channels, s.kernel, s.kernel},
                         memory::data_type::f32, memory::format_tag::oihw);
    const auto any = [](const memory::desc& desc) {
      return memory::desc(desc.get_dims(), memory::data_type::f32, memory::format_tag::any);
    };
    const memory::dims strides = {s.stride, s.stride};
    // Rows below and right of the last window are not read: the padding there may be negative.
    const memory::dims before = {s.padding, s.padding};
    const memory::dims after = {
        (s.out_height() - 1) * s.stride + s.kernel - s.in_height - s.padding,
        (s.out_width() - 1) * s.stride + s.kernel - s.in_width - s.padding};
    const auto algorithm = dnnl::algorithm::convolution_direct;
    const dnnl::convolution_forward::primitive_desc forward(
        engine, dnnl::prop_kind::forward_training, algorithm, any(x), any(w), any(y), strides,
        before, after);
    if (p.pass == ConvProblem::Pass::kForward) {
      primitive_ = dnnl::convolution_forward(forward);
      Bind({DNNL_ARG_WEIGHTS, w, forward.weights_desc()}, {DNNL_ARG_SRC, x, forward.src_desc()},
           {DNNL_ARG_DST, y, forward.dst_desc()});
    } else if (p.pass == ConvProblem::Pass::kInputGradient) {
      const dnnl::convolution_backward_data::primitive_desc backward(
          engine, algorithm, any(x), any(w), any(y), strides, before, after, forward);
      primitive_ = dnnl::convolution_backward_data(backward);
      Bind({DNNL_ARG_WEIGHTS, w, backward.weights_desc()},
           {DNNL_ARG_DIFF_DST, y, backward.diff_dst_desc()},
           {DNNL_ARG_DIFF_SRC, x, backward.diff_src_desc()});
    } else {
      const dnnl::convolution_backward_weights::primitive_desc backward(
          engine, algorithm, any(x), any(w), any(y), strides, before, after, forward);
      primitive_ = dnnl::convolution_backward_weights(backward);
      Bind({DNNL_ARG_DIFF_DST, y, backward.diff_dst_desc()}, {DNNL_ARG_SRC, x, backward.src_desc()},
           {DNNL_ARG_DIFF_WEIGHTS, w, backward.diff_weights_desc()});
    }
  }

  // Floats that operand `index` (a, b, c of Backend::Convolve) takes in the library's layout.
  int64_t Floats(int index) const {
    return static_cast<int64_t>(operands_[index].inner.get_desc().get_size() / sizeof(float));
  }

  // `buffers` hold the operands in the library's layout.
  void Run(dnnl::stream& stream, const float* a, const float* b, float* c,
           float* const (&buffers)[3]) {
    const void* data[3] = {a, b, c};
    for (int i = 0; i < 3; ++i) {
      operands_[i].outer.set_data_handle(const_cast<void*>(data[i]));
      operands_[i].inner.set_data_handle(buffers[i]);
    }
    for (int i = 0; i < 2; ++i) {
      operands_[i].reorder.execute(stream, operands_[i].outer, operands_[i].inner);
    }
    Execute(stream);
    operands_[2].reorder.execute(stream, operands_[2].inner, operands_[2].outer);
    stream.wait();
  }

  // The same on `buffers` alone.
  void RunBlocked(dnnl::stream& stream, float* const (&buffers)[3]) {
    for (int i = 0; i < 3; ++i) operands_[i].inner.set_data_handle(buffers[i]);
    Execute(stream);
    stream.wait();
  }

 private:
  struct Description {
    int argument;
    memory::desc outer;
    memory::desc inner;
  };
  struct Operand {
    int argument = 0;
    memory outer;
    memory inner;
    dnnl::reorder reorder;
  };

  void Execute(dnnl::stream& stream) {
    primitive_.execute(stream, {{operands_[0].argument, operands_[0].inner},
                                {operands_[1].argument, operands_[1].inner},
                                {operands_[2].argument, operands_[2].inner}});
  }

  void Bind(const Description& a, const Description& b, const Description& c) {
    const Description* descriptions[3] = {&a, &b, &c};
    for (int i = 0; i < 3; ++i) {
      const Description& d = *descriptions[i];
      Operand& operand = operands_[i];
      operand.argument = d.argument;
      operand.outer = memory(d.outer, engine_, DNNL_MEMORY_NONE);
      operand.inner = memory(d.inner, engine_, DNNL_MEMORY_NONE);
      operand.reorder = i < 2 ? dnnl::reorder(operand.outer, operand.inner)
                              : dnnl::reorder(operand.inner, operand.outer);
    }
  }

  dnnl::engine engine_;
  dnnl::primitive primitive_;
  Operand operands_[3];
};

// oneDNN never writes through the handles of its inputs.
void* InputHandle(const float* data) { return const_cast<float*>(data); }

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
    Try(OneDnnStep::kCreate, "start", [this] {
      engine_ = dnnl::engine(dnnl::engine::kind::cpu, 0);
      stream_ = dnnl::stream(engine_);
    });
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
    const ThreadScope scope(threads_);
    std::unique_ptr<ConvPlan> plan;
    Try(OneDnnStep::kCreate, "plan a convolution", [&] {
      plan = std::make_unique<ConvPlan>(problem, engine_);
      for (int i = 0; i < 3; ++i) {
        const int64_t floats = plan->Floats(i);
        if (blocked_[i].size() < floats) blocked_[i] = AlignedBuffer(floats);
      }
    });
    if (plan == nullptr) ESPALIER_RETURN_IF_ERROR(reference_->PlanConvolution(problem));
    convolutions_.emplace(problem, std::move(plan));
    return absl::OkStatus();
  }

  void Convolve(const ConvProblem& problem, const float* a, const float* b, float* c) override {
    const ThreadScope scope(threads_);
    const absl::Status planned = PlanConvolution(problem);
    ESPALIER_CHECK(planned.ok(), base::MessageOf(planned).c_str());
    std::unique_ptr<ConvPlan>& plan = convolutions_.at(problem);
    if (plan != nullptr && Try(OneDnnStep::kExecute, "run a convolution", [&] {
          plan->Run(stream_, a, b, c, {blocked_[0].data(), blocked_[1].data(), blocked_[2].data()});
        })) {
      return;
    }
    plan = nullptr;
    reference_->Convolve(problem, a, b, c);
  }

  absl::Status PlanGemm(const GemmShape& shape) override {
    if (plans_.contains(shape)) return absl::OkStatus();
    const ThreadScope scope(threads_);
    std::unique_ptr<GemmPlan> plan;
    Try(OneDnnStep::kCreate, "plan a matmul",
        [&] { plan = std::make_unique<GemmPlan>(shape, engine_); });
    plans_.emplace(shape, std::move(plan));
    return absl::OkStatus();
  }

  void Gemm(const GemmShape& shape, const float* a, const float* b, float* c) override {
    const ThreadScope scope(threads_);
    const absl::Status planned = PlanGemm(shape);
    ESPALIER_CHECK(planned.ok(), base::MessageOf(planned).c_str());
    std::unique_ptr<GemmPlan>& plan = plans_.at(shape);
    if (plan != nullptr && Try(OneDnnStep::kExecute, "run a matmul", [&] {
          plan->a.set_data_handle(InputHandle(a));
          plan->b.set_data_handle(InputHandle(b));
          plan->c.set_data_handle(c);
          plan->primitive.execute(
              stream_,
              {{DNNL_ARG_SRC, plan->a}, {DNNL_ARG_WEIGHTS, plan->b}, {DNNL_ARG_DST, plan->c}});
          stream_.wait();
        })) {
      return;
    }
    plan = nullptr;
    reference_->Gemm(shape, a, b, c);
  }

 private:
  // Whether the library did it.
  template <typename Body>
  bool Try(OneDnnStep step, const char* what, const Body& body) {
    const absl::Status status = Guard(step, what, body);
    if (!status.ok()) Report(status);
    return status.ok();
  }

  int threads_;
  std::shared_ptr<PanelPool> panels_;
  std::unique_ptr<Backend> reference_;
  dnnl::engine engine_;
  dnnl::stream stream_;
  // Null: the reference's.
  std::map<GemmShape, std::unique_ptr<GemmPlan>> plans_;
  std::map<ConvProblem, std::unique_ptr<ConvPlan>> convolutions_;
  // Operands of the convolution that runs, in the library's layout; as large as the largest.
  AlignedBuffer blocked_[3];
};

}  // namespace

std::unique_ptr<Backend> MakeOneDnnBackend(int threads) {
  return std::make_unique<OneDnnBackend>(threads);
}

void ObserveOneDnnFailures(std::function<void(const std::string& message)> observer) {
  const std::lock_guard lock(observer_mutex);
  Observer() = std::move(observer);
}

void FailOneDnnFrom(OneDnnStep step, int64_t call) { Faults().Set(step, call); }

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
    const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    auto plan = std::make_shared<ConvPlan>(problem, engine);
    auto buffers = std::make_shared<std::array<AlignedBuffer, 3>>();
    for (int i = 0; i < 3; ++i) (*buffers)[i] = AlignedBuffer(plan->Floats(i));
    run = [plan, buffers, threads, stream = dnnl::stream(engine)]() mutable {
      const ThreadScope inner(threads);
      plan->RunBlocked(stream, {(*buffers)[0].data(), (*buffers)[1].data(), (*buffers)[2].data()});
    };
  }));
  return run;
}

}  // namespace espalier::worker::engine
