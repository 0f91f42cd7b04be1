#include "worker/language/perplexity.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "common/base/status.h"

namespace espalier::worker::language {
namespace {

// One window: inputs [begin, begin + size) of the corpus; targets from `first_counted` on count.
struct Window {
  int64_t begin = 0;
  int64_t size = 0;
  int64_t first_counted = 0;
};

std::vector<Window> WindowsOf(int64_t tokens, int64_t context, int64_t stride) {
  std::vector<Window> windows;
  int64_t counted = 0;  // targets that an earlier window has
  for (int64_t begin = 0; counted < tokens - 1; begin += stride) {
    const int64_t size = std::min(context, tokens - 1 - begin);
    windows.push_back({begin, size, counted - begin});
    counted = begin + size;
  }
  return windows;
}

struct LoadedWindow {
  HiddenState hidden;
  std::vector<int32_t> targets;
};

absl::StatusOr<LoadedWindow> EmbedWindow(const LanguageEngine& engine,
                                         const model::OuterWeights& outer,
                                         std::span<const int32_t> tokens, const Window& window) {
  const auto inputs =
      tokens.subspan(static_cast<size_t>(window.begin), static_cast<size_t>(window.size));
  const std::vector<int32_t> sequence(inputs.begin(), inputs.end());
  LoadedWindow loaded;
  ESPALIER_ASSIGN_OR_RETURN(loaded.hidden, engine.Embed(outer, std::span(&sequence, 1)));
  const auto targets =
      tokens.subspan(static_cast<size_t>(window.begin) + 1, static_cast<size_t>(window.size));
  loaded.targets.assign(targets.begin(), targets.end());
  std::fill_n(loaded.targets.begin(), window.first_counted, -1);
  return loaded;
}

absl::Status CheckOptions(const model::TransformerConfig& config, size_t tokens, int64_t context,
                          int64_t stride) {
  if (context < 1 || context > config.context || stride < 1 || stride > context) {
    return base::InvalidArgument(
        "PERPLEXITY_PARAMETER",
        fmt::format("expected 1 ≤ stride ≤ context ≤ {}, the model's context, found stride {} and "
                    "context {}",
                    config.context, stride, context));
  }
  if (tokens < 2) {
    return base::InvalidArgument(
        "TEXT_TOO_SHORT", fmt::format("expected a text of at least two tokens, found {}; the first "
                                      "token is not predicted",
                                      tokens));
  }
  return absl::OkStatus();
}

}  // namespace

double PerplexityResult::mean_nll() const {
  return predicted == 0 ? 0.0 : nll_sum / static_cast<double>(predicted);
}

double PerplexityResult::perplexity() const { return std::exp(mean_nll()); }

absl::StatusOr<PerplexityResult> ComputePerplexity(const model::TransformerConfig& config,
                                                   const model::OuterWeights& outer,
                                                   const BlockSource& blocks,
                                                   std::span<const int32_t> tokens, int threads,
                                                   const PerplexityOptions& options) {
  const int64_t context = options.context == 0 ? config.context : options.context;
  const int64_t stride = options.stride == 0 ? context : options.stride;
  ESPALIER_RETURN_IF_ERROR(CheckOptions(config, tokens.size(), context, stride));
  ESPALIER_ASSIGN_OR_RETURN(const auto engine, LanguageEngine::Create(config, context, threads));
  const std::vector<Window> windows =
      WindowsOf(static_cast<int64_t>(tokens.size()), context, stride);
  const int64_t window_bytes = config.hidden * engine->stride() * 4;
  const auto group = static_cast<size_t>(std::max<int64_t>(1, options.group_bytes / window_bytes));
  PerplexityResult result;
  for (size_t begin = 0; begin < windows.size(); begin += group) {
    std::vector<LoadedWindow> loaded;
    for (size_t i = begin; i < std::min(windows.size(), begin + group); ++i) {
      ESPALIER_ASSIGN_OR_RETURN(LoadedWindow window,
                                EmbedWindow(*engine, outer, tokens, windows[i]));
      loaded.push_back(std::move(window));
    }
    for (int64_t b = 0; b < config.blocks; ++b) {
      ESPALIER_ASSIGN_OR_RETURN(model::BlockWeights weights, blocks(b));
      ESPALIER_ASSIGN_OR_RETURN(const auto block, engine->Load(std::move(weights)));
      for (LoadedWindow& window : loaded) {
        if (options.cancelled != nullptr && *options.cancelled) {
          return absl::CancelledError("the computation was cancelled");
        }
        engine->Run(*block, window.hidden);
      }
    }
    for (const LoadedWindow& window : loaded) {
      ESPALIER_ASSIGN_OR_RETURN(const auto losses,
                                engine->Losses(outer, window.hidden, window.targets));
      result.nll_sum += losses[0].nll_sum;
      result.predicted += losses[0].predicted;
      result.correct += losses[0].correct;
    }
  }
  return result;
}

}  // namespace espalier::worker::language
