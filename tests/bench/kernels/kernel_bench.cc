// espalier-bench-kernels: GFLOP/s of the sparse products over shapes, densities, batches and
// threads.
//
// One line per combination. "share" is the speed over the L2-stream bound of as many threads; dense
// is oneDNN's matmul of the same layer, whose time decides what density pays off. Every number is
// the best of many samples, of processor time for one thread. A processor that others use too
// streams at very different speeds from one millisecond to the next: the bound of each number is
// sampled in turns with it, as long and as often.
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "CLI/CLI.hpp"
#include "common/sparsity/random_topology.h"
#include "fmt/format.h"
#include "tests/bench/kernels/stream_bound.h"
#include "tests/bench/timing.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/kernels/sparse_product.h"
#include "worker/engine/onednn/onednn_backend.h"

namespace espalier::bench {
namespace {

using namespace worker::engine;  // NOLINT(google-build-using-namespace): the bench is about nothing
                                 // else

constexpr double kSampleSeconds = 1e-3;

struct Shape {
  int64_t rows;
  int64_t cols;
};

struct Options {
  double seconds = 0.05;
  std::vector<double> densities = {0.2, 0.1, 0.05, 0.01};
  std::vector<int64_t> batches = {32, 64, 128, 256};
  std::vector<int> threads = {1, 2};
  std::vector<Shape> shapes = {{1024, 1024}, {4096, 4096}, {1000, 784}, {4000, 3072}};
  bool avx2 = false;

  Isa isa() const { return avx2 ? Isa::kAvx2 : DetectIsa(); }
};

struct Speed {
  double gflops = 0;
  double share = 0;  // of the bound; 0 where none was measured
};

// Something to be timed: run(n) does it n times.
class Sampled {
 public:
  Sampled(int threads, double flops, std::function<void(int)> run)
      : threads_(threads), flops_(flops), run_(std::move(run)) {
    run_(1);
    for (int n = 0; n < 3; ++n) once_ = std::min(once_, Seconds(1));
    repeats_ = RepeatsFor(kSampleSeconds);
  }

  int RepeatsFor(double seconds) const {
    return std::max(1, static_cast<int>(std::ceil(seconds / once_)));
  }
  double sample_seconds() const { return once_ * repeats_; }
  void set_sample_seconds(double seconds) { repeats_ = RepeatsFor(seconds); }

  // Not timed is a first run, which brings back what another sample took the cache for.
  void Sample() {
    run_(1);
    best_ = std::max(best_, flops_ * repeats_ / Seconds(repeats_) * 1e-9);
  }
  double best_gflops() const { return best_; }

 private:
  double Seconds(int repeats) const {
    const double start = Now(threads_);
    run_(repeats);
    return std::max(Now(threads_) - start, 1e-9);
  }

  int threads_;
  double flops_;
  std::function<void(int)> run_;
  double once_ = 1e9;
  int repeats_ = 1;
  double best_ = 0;
};

std::function<void(int)> Repeated(std::function<void()> run) {
  return [run = std::move(run)](int times) {
    for (int n = 0; n < times; ++n) run();
  };
}

// Speed of `run`, which does `flops` operations.
Speed Measure(const Options& options, int threads, double flops, std::function<void()> run) {
  Sampled product(threads, flops, Repeated(std::move(run)));
  const double deadline = Now(threads) + options.seconds;
  for (int samples = 0; samples < 5 || Now(threads) < deadline; ++samples) product.Sample();
  return {product.best_gflops(), 0};
}

// The same, in turns with samples of the bound that last as long.
Speed MeasureBesideBound(const Options& options, int threads, double flops,
                         std::function<void()> run) {
  Sampled product(threads, flops, Repeated(std::move(run)));
  L2Stream stream(options.isa(), threads);
  Sampled bound(threads, stream.flops(), [&](int passes) { stream.Run(passes); });
  bound.set_sample_seconds(product.sample_seconds());
  const double deadline = Now(threads) + 2 * options.seconds;
  for (int samples = 0; samples < 5 || Now(threads) < deadline; ++samples) {
    bound.Sample();
    product.Sample();
  }
  return {product.best_gflops(), product.best_gflops() / bound.best_gflops()};
}

// Dense forward product of the layer.
Speed MeasureDense(const Options& options, Shape shape, int64_t batch, int threads) {
  auto backend = MakeOneDnnBackend(threads);
  const int64_t stride = (batch / kLanes | 1) * kLanes;
  const AlignedBuffer w = RandomBuffer(shape.rows * shape.cols);
  const AlignedBuffer x = RandomBuffer(shape.cols * stride);
  AlignedBuffer y(shape.rows * stride);
  const GemmShape gemm = {.m = shape.rows,
                          .n = batch,
                          .k = shape.cols,
                          .lda = shape.cols,
                          .ldb = stride,
                          .ldc = stride};
  return Measure(options, threads, 2.0 * static_cast<double>(w.size() * batch),
                 [&] { backend->Gemm(gemm, w.data(), x.data(), y.data()); });
}

struct SparseSpeeds {
  Speed onednn;
  Speed spmm;
  Speed sddmm;
};

SparseSpeeds MeasureSparse(const Options& options, Shape shape, double density, int64_t batch,
                           int threads) {
  const auto topology = std::make_shared<const tensor::Topology>(
      sparsity::RandomTopology(shape.rows, shape.cols,
                               std::llround(density * static_cast<double>(shape.rows * shape.cols)),
                               1)
          .value());
  const int64_t stride = (batch / kLanes | 1) * kLanes;
  const AlignedBuffer values = RandomBuffer(topology->nnz());
  const AlignedBuffer x = RandomBuffer(shape.cols * stride);
  const AlignedBuffer dy = RandomBuffer(shape.rows * stride);
  AlignedBuffer y(shape.rows * stride);
  AlignedBuffer gradient(topology->nnz());
  // oneDNN takes no rows with gaps: its stride is the batch itself.
  auto onednn = MakeOneDnnCsrProduct(topology, batch, threads).value();
  KernelSparseProduct own(topology, stride, threads, options.isa());
  const double flops = 2.0 * static_cast<double>(topology->nnz() * batch);
  return {Measure(options, threads, flops,
                  [&] { onednn->Multiply(values.data(), x.data(), batch, y.data()); }),
          MeasureBesideBound(options, threads, flops,
                             [&] { own.Multiply(values.data(), x.data(), batch, y.data()); }),
          MeasureBesideBound(options, threads, flops,
                             [&] { own.Gradient(dy.data(), x.data(), batch, gradient.data()); })};
}

void Run(const Options& options) {
  fmt::print("{:>5} {:>5} {:>7} {:>5} {:>7} | {:>7} {:>9} {:>7} {:>6} {:>7} {:>6}\n", "out", "in",
             "density", "batch", "threads", "dense", "oneDNN CSR", "SpMM", "share", "SDDMM",
             "share");
  for (const Shape shape : options.shapes) {
    for (const int threads : options.threads) {
      for (const int64_t batch : options.batches) {
        const Speed dense = MeasureDense(options, shape, batch, threads);
        for (const double density : options.densities) {
          const SparseSpeeds s = MeasureSparse(options, shape, density, batch, threads);
          fmt::print(
              "{:>5} {:>5} {:>7} {:>5} {:>7} | {:>7.1f} {:>10.1f} {:>7.1f} {:>6.2f} {:>7.1f} "
              "{:>6.2f}\n",
              shape.rows, shape.cols, density, batch, threads, dense.gflops, s.onednn.gflops,
              s.spmm.gflops, s.spmm.share, s.sddmm.gflops, s.sddmm.share);
        }
      }
    }
  }
}

}  // namespace
}  // namespace espalier::bench

int main(int argc, char** argv) {
  espalier::bench::Options options;
  CLI::App app("Speed of the sparse products");
  app.add_option("--seconds", options.seconds, "Time for each number")->check(CLI::PositiveNumber);
  app.add_option("--density", options.densities)->delimiter(',')->check(CLI::Range(0.0, 1.0));
  app.add_option("--batch", options.batches, "Multiples of 16")->delimiter(',');
  app.add_option("--threads", options.threads)->delimiter(',')->check(CLI::PositiveNumber);
  app.add_flag("--avx2", options.avx2, "Measure the AVX2 kernels");
  CLI11_PARSE(app, argc, argv);
  espalier::bench::Run(options);
  return 0;
}
