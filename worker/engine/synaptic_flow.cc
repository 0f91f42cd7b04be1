#include "worker/engine/synaptic_flow.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::worker::engine {

SynapticFlow::SynapticFlow(std::shared_ptr<const tensor::ModelTopology> topology, FlowChain chain,
                           std::vector<FlowWeight*> weights, int64_t input_features)
    : topology_(std::move(topology)),
      chain_(std::move(chain)),
      weights_(std::move(weights)),
      input_features_(input_features) {}

absl::StatusOr<SynapticFlow> SynapticFlow::Create(
    const NetworkSpec& spec, std::shared_ptr<const tensor::ModelTopology> topology,
    std::span<const float> values, int threads) {
  if (static_cast<int64_t>(values.size()) != topology->total_stored()) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("expected {} values, found {}", topology->total_stored(), values.size()));
  }
  const MapShape input =
      spec.input_image.channels > 0 ? spec.input_image : MapShape{.channels = spec.input_features};
  FlowContext context = {.topology = *topology, .values = values, .threads = threads};
  ESPALIER_ASSIGN_OR_RETURN(FlowChain chain, FlowChain::Create(spec.layers, input, context));
  if (context.next_tensor != topology->num_tensors()) {
    return base::InvalidArgument("SHAPE_MISMATCH",
                                 fmt::format("the network has {} tensors, the model {}",
                                             context.next_tensor, topology->num_tensors()));
  }
  return SynapticFlow(std::move(topology), std::move(chain), std::move(context.weights),
                      spec.input_features);
}

void SynapticFlow::Score() {
  const FlowValues ones(input_features_, 1.0);
  const size_t outputs = chain_.Forward(ones, /*rescale=*/true).size();
  chain_.Backward(ones, FlowValues(outputs, 1.0));
}

void SynapticFlow::Prune(int64_t count) {
  std::vector<double> scores;
  for (const FlowWeight* weight : weights_) {
    if (weight->sparsifiable) {
      scores.insert(scores.end(), weight->scores.begin(), weight->scores.end());
    }
  }
  // Numbers that are none have no order; NormalizedScores() shows them.
  const bool finite =
      std::ranges::all_of(scores, [](double score) { return std::isfinite(score); });
  if (!finite || count >= static_cast<int64_t>(scores.size())) return;
  // Everything above the score of the first that goes stays, and of its equals the first ones.
  std::ranges::nth_element(scores, scores.begin() + count, std::greater{});
  const double bound = scores[count];
  int64_t equals = count - std::count_if(scores.begin(), scores.begin() + count,
                                         [&](double score) { return score > bound; });
  for (FlowWeight* weight : weights_) {
    if (!weight->sparsifiable) continue;
    size_t kept = 0;
    for (size_t k = 0; k < weight->positions.size(); ++k) {
      const double score = weight->scores[k];
      if (score < bound || (score == bound && equals-- <= 0)) continue;
      weight->positions[kept] = weight->positions[k];
      weight->magnitudes[kept] = weight->magnitudes[k];
      weight->scores[kept] = score;
      ++kept;
    }
    weight->positions.resize(kept);
    weight->magnitudes.resize(kept);
    weight->scores.resize(kept);
  }
}

std::vector<double> SynapticFlow::Scores() const {
  std::vector<double> scores(topology_->sparsifiable_size());
  for (const FlowWeight* weight : weights_) {
    for (size_t k = 0; weight->sparsifiable && k < weight->positions.size(); ++k) {
      scores[weight->first + weight->positions[k]] = weight->scores[k];
    }
  }
  return scores;
}

std::vector<float> SynapticFlow::NormalizedScores() const {
  constexpr double kLeast = 0x1p-59;
  double largest = 0;
  for (const FlowWeight* weight : weights_) {
    for (const double score : weight->scores) {
      if (weight->sparsifiable && !(score <= largest)) largest = score;
    }
  }
  std::vector<float> scores(topology_->sparsifiable_size());
  for (const FlowWeight* weight : weights_) {
    for (size_t k = 0; weight->sparsifiable && k < weight->positions.size(); ++k) {
      const double share = largest > 0 ? weight->scores[k] / largest : 0;
      const double value = share < kLeast ? kLeast : share;
      scores[weight->first + weight->positions[k]] = static_cast<float>(value);
    }
  }
  return scores;
}

}  // namespace espalier::worker::engine
