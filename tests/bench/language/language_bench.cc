// espalier-bench-language: one LLaMA block at inference.
//
// The feed-forward part is sparse with random positions, on the engine's kernels; attention stays
// dense, on oneDNN's matmul. "speedup" is the time of the block with a dense feed-forward part over
// that. The last line of each number of threads is the dense block with an observer that takes Σx
// and Σx² of every input column of every linear layer in double precision; layers with the same
// input share them.
// Times are the best of many runs, and processor time for one thread, so that other work on the
// machine disturbs little.
#include <algorithm>
#include <functional>
#include <memory>
#include <vector>

#include "CLI/CLI.hpp"
#include "common/base/rng.h"
#include "common/language/checkpoint_reader.h"
#include "fmt/format.h"
#include "tests/bench/timing.h"
#include "worker/engine/parallel.h"
#include "worker/language/language_engine.h"

namespace espalier::bench {
namespace {

struct Options {
  double seconds = 1;
  int64_t hidden = 1024;
  int64_t intermediate = 2816;
  int64_t tokens = 512;
  std::vector<double> densities = {0.5, 0.3, 0.1, 0.05};
  std::vector<int> threads = {1, 2};
};

language::TransformerConfig Config(const Options& options) {
  language::TransformerConfig config;
  config.hidden = options.hidden;
  config.intermediate = options.intermediate;
  config.blocks = 1;
  config.heads = std::max<int64_t>(1, options.hidden / 64);
  config.kv_heads = config.heads;
  config.head_size = options.hidden / config.heads;
  config.vocabulary = 256;
  config.context = options.tokens;
  config.attention_bias = false;
  config.mlp_bias = false;
  return config;
}

// A weight of that density; rows keep about the same number of positions.
language::LinearWeights RandomLinear(const language::LinearLayerSpec& spec, double density,
                                     base::Rng& rng) {
  language::LinearWeights linear;
  linear.spec = spec;
  linear.values.resize(static_cast<size_t>(spec.outputs * spec.inputs));
  for (float& value : linear.values) {
    const double draw = rng.Uniform();
    value = draw < density ? static_cast<float>(draw / density - 0.5) * 0.05F : 0.0F;
  }
  if (density < 1) (void)language::MakeSparse(linear);
  return linear;
}

language::BlockWeights RandomBlock(const language::TransformerConfig& config, double density) {
  base::Rng rng(base::StreamKey(1, "bench"));
  language::BlockWeights block;
  block.attention_norm.assign(static_cast<size_t>(config.hidden), 1.0F);
  block.mlp_norm = block.attention_norm;
  for (const language::LinearLayerSpec& spec : language::BlockLinears(config)) {
    block.linears.push_back(
        RandomLinear(spec, language::IsFeedForward(spec.role) ? density : 1, rng));
  }
  return block;
}

struct Bench {
  std::unique_ptr<worker::language::LanguageEngine> engine;
  worker::language::HiddenState hidden;
  std::vector<std::unique_ptr<worker::language::LoadedBlock>> blocks;
};

Bench Make(const Options& options, int threads) {
  const language::TransformerConfig config = Config(options);
  Bench bench;
  bench.engine = worker::language::LanguageEngine::Create(config, options.tokens, threads).value();
  language::OuterWeights outer;
  outer.embedding.resize(static_cast<size_t>(config.vocabulary * config.hidden));
  base::Rng rng(base::StreamKey(2, "bench"));
  for (float& value : outer.embedding) value = static_cast<float>(rng.Uniform() - 0.5);
  std::vector<int32_t> tokens(static_cast<size_t>(options.tokens));
  for (int32_t& token : tokens) token = static_cast<int32_t>(rng.Below(256));
  bench.hidden = bench.engine->Embed(outer, std::span(&tokens, 1)).value();
  return bench;
}

// Σx and Σx² of each input column.
class Sums {
 public:
  explicit Sums(int threads) : threads_(threads) {}

  void operator()(const worker::language::LinearInput& input) {
    if (input.same_as_previous) return;
    sums_.resize(static_cast<size_t>(2 * input.inputs));
    worker::engine::ParallelRows(threads_, input.inputs, [&](worker::engine::RowRange rows) {
      for (int64_t r = rows.begin; r < rows.end; ++r) {
        constexpr int kParts = 8;
        double sum[kParts] = {};
        double square[kParts] = {};
        const float* x = input.x + r * input.stride;
        for (int64_t c = 0; c + kParts <= input.tokens; c += kParts) {
          for (int l = 0; l < kParts; ++l) {
            const double value = x[c + l];
            sum[l] += value;
            square[l] += value * value;
          }
        }
        for (int l = 0; l < kParts; ++l) {
          sums_[static_cast<size_t>(2 * r)] += sum[l];
          sums_[static_cast<size_t>(2 * r + 1)] += square[l];
        }
      }
    });
  }

 private:
  int threads_;
  std::vector<double> sums_;
};

void Run(const Options& options) {
  fmt::print("hidden {}, intermediate {}, {} tokens\n\n", options.hidden, options.intermediate,
             options.tokens);
  fmt::print("{:>7} {:>8} {:>9} {:>10} {:>8}\n", "threads", "density", "block ms", "dense ms",
             "speedup");
  for (const int threads : options.threads) {
    Bench bench = Make(options, threads);
    const auto time = [&](double density, const worker::language::LinearObserver& observer) {
      const auto block = bench.engine->Load(RandomBlock(Config(options), density)).value();
      worker::language::HiddenState hidden;
      hidden.values = worker::engine::AlignedBuffer(bench.hidden.values.size());
      hidden.bounds = bench.hidden.bounds;
      hidden.tokens = bench.hidden.tokens;
      hidden.stride = bench.hidden.stride;
      std::ranges::copy(bench.hidden.values.span(), hidden.values.data());
      return FastestMilliseconds(options.seconds, threads,
                                 [&] { bench.engine->Run(*block, hidden, observer); });
    };
    const double dense = time(1, {});
    for (const double density : options.densities) {
      const double sparse = time(density, {});
      fmt::print("{:>7} {:>8} {:>9.2f} {:>10.2f} {:>7.2f}x\n", threads, density, sparse, dense,
                 dense / sparse);
    }
    const double observed = time(1, Sums(threads));
    fmt::print("{:>7} {:>8} {:>9.2f} {:>10.2f} {:>+7.1f}% with sums of inputs\n", threads, 1,
               observed, dense, 100 * (observed / dense - 1));
  }
}

}  // namespace
}  // namespace espalier::bench

int main(int argc, char** argv) {
  espalier::bench::Options options;
  CLI::App app(
      "A LLaMA block at inference: sparse feed-forward part, and the cost of observing it");
  app.add_option("--seconds", options.seconds, "Time of one measurement");
  app.add_option("--hidden", options.hidden, "Width of the residual stream, a multiple of 64");
  app.add_option("--intermediate", options.intermediate, "Width of the feed-forward part");
  app.add_option("--tokens", options.tokens, "Tokens of the one sequence");
  app.add_option("--density", options.densities, "Densities of the feed-forward part")
      ->delimiter(',');
  app.add_option("--threads", options.threads, "Numbers of threads")->delimiter(',');
  CLI11_PARSE(app, argc, argv);
  espalier::bench::Run(options);
  return 0;
}
