// espalier-bench-conv: time of sparse 3 × 3 convolutions, forward and backward, against oneDNN's
// dense one.
//
// One line per shape, density and number of threads. "dense" is oneDNN's three products as the
// engine runs them, with the conversions between layouts; "blocked" is the library alone, its
// operands in the layout it likes best. "speedup" is that of sparse over blocked, the harder
// comparison. Times are the best of many runs, and processor time for one thread, so that other
// work on the machine disturbs little.
#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "CLI/CLI.hpp"
#include "common/sparsity/random_topology.h"
#include "fmt/format.h"
#include "tests/bench/timing.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/kernels/kernels.h"
#include "worker/engine/onednn/onednn_backend.h"

namespace espalier::bench {
namespace {

using namespace worker::engine;  // NOLINT(google-build-using-namespace): the bench is about nothing
                                 // else

struct Options {
  double seconds = 0.3;
  int64_t batch = 64;
  std::vector<double> densities = {0.1, 0.05, 0.01};
  std::vector<int> threads = {1, 2};
};

// in_channels, in_height, in_width, out_channels, kernel, stride, padding
constexpr ConvShape kShapes[] = {{64, 16, 16, 128, 3, 1, 1},
                                 {64, 8, 8, 128, 3, 1, 1},
                                 {256, 16, 16, 256, 3, 1, 1},
                                 {256, 8, 8, 256, 3, 1, 1}};

// Forward, input gradient and weight gradient, in milliseconds.
struct Times {
  double forward = 0;
  double input = 0;
  double weight = 0;
  double sum() const { return forward + input + weight; }
};

struct Operands {
  Operands(const ConvShape& shape, int64_t weights, int64_t stride)
      : w(RandomBuffer(weights)),
        x(RandomBuffer(shape.in_features() * stride)),
        y(RandomBuffer(shape.out_features() * stride)),
        dw(weights) {}
  AlignedBuffer w;
  AlignedBuffer x;
  AlignedBuffer y;
  AlignedBuffer dw;
};

Times MeasureDense(const Options& options, const ConvShape& shape, int threads, int64_t stride) {
  auto backend = MakeOneDnnBackend(threads);
  Operands o(shape, shape.out_channels * shape.cols(), stride);
  const auto measure = [&](ConvProblem::Pass pass, const float* a, const float* b, float* c) {
    const ConvProblem problem = {pass, shape, options.batch, stride};
    return FastestMilliseconds(options.seconds, threads,
                               [&] { backend->Convolve(problem, a, b, c); });
  };
  return {measure(ConvProblem::Pass::kForward, o.w.data(), o.x.data(), o.y.data()),
          measure(ConvProblem::Pass::kInputGradient, o.w.data(), o.y.data(), o.x.data()),
          measure(ConvProblem::Pass::kWeightGradient, o.y.data(), o.x.data(), o.dw.data())};
}

Times MeasureBlocked(const Options& options, const ConvShape& shape, int threads) {
  auto time = [&](ConvProblem::Pass pass) {
    auto run = MakeOneDnnBlockedConvolution({pass, shape, options.batch, options.batch}, threads);
    return FastestMilliseconds(options.seconds, threads, run.value());
  };
  return {time(ConvProblem::Pass::kForward), time(ConvProblem::Pass::kInputGradient),
          time(ConvProblem::Pass::kWeightGradient)};
}

Times MeasureSparse(const Options& options, const ConvShape& shape, double density, int threads,
                    int64_t stride) {
  const int64_t count =
      std::llround(density * static_cast<double>(shape.out_channels * shape.cols()));
  const auto topology = std::make_shared<const tensor::Topology>(
      sparsity::RandomTopology(shape.out_channels, shape.cols(), count, 1).value());
  auto backend = MakeOneDnnBackend(threads);
  auto sparse = backend->PlanSparseConvolution(topology, shape, stride, true).value();
  Operands o(shape, count, stride);
  AlignedBuffer scratch(sparse->scratch());
  const int64_t width = options.batch;
  return {FastestMilliseconds(options.seconds, threads,
                              [&] { sparse->Forward(o.w.data(), o.x.data(), width, o.y.data()); }),
          FastestMilliseconds(options.seconds, threads,
                              [&] {
                                sparse->InputGradient(o.w.data(), o.y.data(), width, o.x.data(),
                                                      scratch.data());
                              }),
          FastestMilliseconds(options.seconds, threads, [&] {
            sparse->WeightGradient(o.y.data(), o.x.data(), width, o.dw.data());
          })};
}

void Run(const Options& options) {
  const int64_t stride = ((options.batch + kLanes - 1) / kLanes | 1) * kLanes;
  fmt::print("milliseconds: forward + input gradient + weight gradient; batch {}\n", options.batch);
  fmt::print("{:>12} {:>5} {:>3} | {:>26} | {:>26} | {:>7} | {:>26} | {:>7} {:>7}\n", "channels",
             "map", "thr", "dense", "blocked", "density", "sparse", "GFLOP/s", "speedup");
  for (const ConvShape& s : kShapes) {
    for (const int threads : options.threads) {
      const Times dense = MeasureDense(options, s, threads, stride);
      const Times blocked = MeasureBlocked(options, s, threads);
      for (const double density : options.densities) {
        const Times sparse = MeasureSparse(options, s, density, threads, stride);
        const double flops = 6.0 * density * static_cast<double>(s.cols() * s.out_features()) *
                             static_cast<double>(options.batch);
        const auto text = [](const Times& t) {
          return fmt::format("{:6.2f} {:6.2f} {:6.2f} ={:6.2f}", t.forward, t.input, t.weight,
                             t.sum());
        };
        fmt::print("{:>4} → {:>5} {:>2}×{:<2} {:>3} | {} | {} | {:>7} | {} | {:>7.1f} {:>6.1f}×\n",
                   s.in_channels, s.out_channels, s.in_height, s.in_width, threads, text(dense),
                   text(blocked), density, text(sparse), flops / sparse.sum() * 1e-6,
                   blocked.sum() / sparse.sum());
      }
    }
  }
}

}  // namespace
}  // namespace espalier::bench

int main(int argc, char** argv) {
  espalier::bench::Options options;
  CLI::App app("Time of sparse and dense convolutions");
  app.add_option("--seconds", options.seconds, "Time for each number")->check(CLI::PositiveNumber);
  app.add_option("--density", options.densities)->delimiter(',')->check(CLI::Range(0.0, 1.0));
  app.add_option("--batch", options.batch, "A multiple of 16");
  app.add_option("--threads", options.threads)->delimiter(',')->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  espalier::bench::Run(options);
  return 0;
}
