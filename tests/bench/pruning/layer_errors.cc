// espalier-bench-layer-errors: what pruning and refinement do to the outputs of a language model's
// layers, and which part of that the inputs' mean makes, which is all that DSnoT looks at.
//
// Every layer is given what it is given in the dense model. A line is one start at one level with
// one number of exchanges; errors are root mean squares over all linear layers, relative to the
// layer's output: all of it, and the part by the mean input, which DSnoT makes small
// (server/methods/pruning/prune_layer.h). The rest is √(all² − mean²).
#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "common/language/checkpoint_reader.h"
#include "common/language/tokenizer.h"
#include "server/methods/pruning/prune_layer.h"
#include "worker/language/language_engine.h"

namespace espalier::bench {
namespace {

using server::methods::PruningCriterion;
using server::methods::PruningSettings;
using sparsity::ActivationStatistics;

struct Options {
  std::string model;
  std::string text;
  std::string tokenizer = "bytes";
  int64_t context = 128;
  int64_t sequences = 128;
  int threads = 1;
};

struct Layer {
  language::LinearWeights weights;
  ActivationStatistics statistics;
};

std::vector<std::vector<int32_t>> Sequences(const Options& options) {
  std::ostringstream text;
  text << std::ifstream(options.text, std::ios::binary).rdbuf();
  const auto tokens = language::LoadTokenizer(options.tokenizer).value()->Encode(text.str());
  std::vector<std::vector<int32_t>> sequences;
  const auto count = static_cast<int64_t>(tokens.size());
  for (int64_t at = 0; at + options.context <= count; at += options.context) {
    if (static_cast<int64_t>(sequences.size()) == options.sequences) break;
    sequences.emplace_back(tokens.begin() + at, tokens.begin() + at + options.context);
  }
  return sequences;
}

// All linear layers with the statistics of their inputs.
std::vector<Layer> Observe(const Options& options) {
  const auto reader = options.model.ends_with(".safetensors")
                          ? language::CheckpointReader::OpenFile(options.model).value()
                          : language::CheckpointReader::Open(options.model).value();
  const auto engine =
      worker::language::LanguageEngine::Create(reader->config(), options.context, options.threads)
          .value();
  const language::OuterWeights outer = reader->ReadOuter().value();
  std::vector<worker::language::HiddenState> states;
  for (const auto& sequence : Sequences(options)) {
    states.push_back(engine->Embed(outer, std::span(&sequence, 1)).value());
  }
  std::vector<Layer> layers;
  for (int64_t b = 0; b < reader->config().blocks; ++b) {
    const auto block = engine->Load(reader->ReadBlock(b).value()).value();
    const size_t first = layers.size();
    for (const language::LinearWeights& linear : block->weights().linears) {
      layers.push_back({linear, ActivationStatistics(linear.spec.inputs, true)});
    }
    for (auto& state : states) {
      engine->Run(*block, state, [&](const worker::language::LinearInput& input) {
        (void)layers[first + input.linear].statistics.AddSequence(input.x, input.stride,
                                                                  input.tokens);
      });
    }
  }
  return layers;
}

// Root mean squares over layers.
struct Errors {
  double output = 0;
  double expected = 0;
  int count = 0;
  void Add(const server::methods::LayerError& error) {
    output += error.output * error.output;
    expected += error.expected * error.expected;
    ++count;
  }
  std::string Text() const {
    return fmt::format("{:.4f} | {:.4f}", std::sqrt(output / count), std::sqrt(expected / count));
  }
};

void Report(const std::vector<Layer>& layers, const std::string& name,
            const PruningSettings& settings, int threads) {
  Errors before;
  Errors after;
  int64_t exchanged = 0;
  int64_t kept = 0;
  for (const Layer& layer : layers) {
    const std::vector<float> dense = language::DenseValues(layer.weights);
    const sparsity::WeightsView view{dense, layer.weights.spec.outputs, layer.weights.spec.inputs};
    const auto pruned =
        server::methods::PruneLayer(view, layer.statistics, settings, true, threads).value();
    before.Add(*pruned.initial_error);
    after.Add(*pruned.error);
    exchanged += pruned.exchanged;
    kept += pruned.mask.KeptCount();
  }
  fmt::print("| {} | {}{} | {} | {} | {:.1f} % |\n", name, settings.dsnot.max_cycles,
             settings.dsnot.monotone ? ", monotone" : "", before.Text(), after.Text(),
             100.0 * static_cast<double>(exchanged) / static_cast<double>(kept));
}

void Run(const Options& options) {
  const std::vector<Layer> layers = Observe(options);
  fmt::print(
      "| start | most exchanges | error | by the mean | + DSnoT: error | by the mean | "
      "weights exchanged |\n| --- | --- | --- | --- | --- | --- | --- |\n");
  for (const auto& [level, pattern] :
       {std::pair<const char*, sparsity::Pattern>{"60 %", {.sparsity = .6}},
        {"2:4", {.sparsity = .5, .kept = 2, .group = 4}}}) {
    for (const auto& [start, criterion] :
         {std::pair<const char*, PruningCriterion>{"magnitude", PruningCriterion::kMagnitude},
          {"wanda", PruningCriterion::kWanda}}) {
      for (const auto& [cycles, monotone] :
           {std::pair{1, false}, {5, false}, {50, false}, {50, true}}) {
        PruningSettings settings;
        settings.criterion = criterion;
        settings.pattern = pattern;
        settings.refine = true;
        settings.dsnot.sign_check = true;
        settings.dsnot.max_cycles = cycles;
        settings.dsnot.monotone = monotone;
        Report(layers, fmt::format("{}, {}", start, level), settings, options.threads);
      }
    }
  }
}

}  // namespace
}  // namespace espalier::bench

int main(int argc, char** argv) {
  espalier::bench::Options options;
  CLI::App app("Errors of a language model's layers before and after DSnoT");
  app.add_option("--model", options.model, "folder, or a checkpoint's .safetensors")->required();
  app.add_option("--text", options.text, "file to calibrate on")->required();
  app.add_option("--tokenizer", options.tokenizer, "file, folder or bytes");
  app.add_option("--context", options.context, "tokens of a sequence");
  app.add_option("--sequences", options.sequences, "most sequences");
  app.add_option("--threads", options.threads, "threads");
  CLI11_PARSE(app, argc, argv);
  espalier::bench::Run(options);
  return 0;
}
