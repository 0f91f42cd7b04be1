// espalier-bench-pruning: time of masks, refinement and statistics of one layer.
//
// Numbers are the median of --repetitions runs on --threads threads. Other load on the machine
// makes them larger.
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <functional>
#include <vector>

#include "common/base/rng.h"
#include "common/sparsity/pruning/activation_statistics.h"
#include "common/sparsity/pruning/dsnot.h"
#include "common/sparsity/pruning/scores.h"
#include "common/sparsity/pruning/sparsegpt.h"

namespace espalier::sparsity {
namespace {

struct Options {
  int64_t size = 4096;
  int threads = 2;
  int repetitions = 3;
  bool sparsegpt = false;
};

double MedianSeconds(int repetitions, const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    work();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  std::sort(seconds.begin(), seconds.end());
  return seconds[seconds.size() / 2];
}

std::vector<float> Normal(int64_t count, uint64_t key) {
  base::Rng rng(base::StreamKey(1, "bench", {key}));
  std::vector<float> values(count);
  for (float& value : values) value = static_cast<float>(rng.Normal());
  return values;
}

void Run(const Options& options) {
  constexpr int64_t kTokens = 2048;
  const int64_t n = options.size;
  const std::vector<float> weights = Normal(n * n, 1);
  const std::vector<float> inputs = Normal(n * kTokens, 2);
  const WeightsView view{weights, n, n};
  const auto report = [](const char* what, double seconds) {
    fmt::print("{:<44}{:>10.3f} s\n", what, seconds);
  };
  ActivationStatistics statistics(n, false);
  report("statistics of 2048 tokens", MedianSeconds(options.repetitions, [&] {
           (void)statistics.AddSequence(inputs.data(), kTokens, kTokens);
         }));
  const ColumnMoments moments = statistics.Moments();
  Mask mask;
  report("magnitude mask, 60 %", MedianSeconds(options.repetitions, [&] {
           mask = *MagnitudeMask(view, {.sparsity = .6}, options.threads);
         }));
  report("Wanda mask, 60 %", MedianSeconds(options.repetitions, [&] {
           mask = *WandaMask(view, moments.sum_squares, {.sparsity = .6}, options.threads);
         }));
  const Mask initial = mask;
  DsnotResult result;
  report("DSnoT refinement, 60 %", MedianSeconds(options.repetitions, [&] {
           mask = initial;
           result = RefineMask(view, moments, WandaFactors(moments.sum_squares), {.sparsity = .6},
                               {}, options.threads, mask);
         }));
  fmt::print("  {} exchanges, mean |error| {:.4g} before and {:.4g} after\n", result.exchanges,
             result.mean_error_before, result.mean_error_after);
  if (!options.sparsegpt) return;
  ActivationStatistics with_gram(n, true);
  report("statistics with Gram of 2048 tokens",
         MedianSeconds(1, [&] { (void)with_gram.AddSequence(inputs.data(), kTokens, kTokens); }));
  const std::vector<double> gram = with_gram.Gram();
  InverseFactor factor;
  report("SparseGPT factor", MedianSeconds(1, [&] { factor = *FactorInverse(gram, n, .01); }));
  report("SparseGPT pruning, 60 %", MedianSeconds(1, [&] {
           std::vector<float> values = weights;
           (void)SparseGptPrune(values, n, factor, {.sparsity = .6}, 128, options.threads);
         }));
}

}  // namespace
}  // namespace espalier::sparsity

int main(int argc, char** argv) {
  CLI::App app("Times pruning of one square layer.", "espalier-bench-pruning");
  espalier::sparsity::Options options;
  app.add_option("--size", options.size, "rows and columns")->capture_default_str();
  app.add_option("--threads", options.threads, "threads for rows")->capture_default_str();
  app.add_option("--repetitions", options.repetitions, "runs")->capture_default_str();
  app.add_flag("--sparsegpt", options.sparsegpt, "also the second-order method");
  CLI11_PARSE(app, argc, argv);
  espalier::sparsity::Run(options);
  return 0;
}
