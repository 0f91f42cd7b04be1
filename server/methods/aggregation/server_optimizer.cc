#include "server/methods/aggregation/server_optimizer.h"

#include <cmath>
#include <functional>
#include <utility>

namespace espalier::server::methods {
namespace {

// A set to work on: a copy, or zeros.
std::vector<float> Thaw(const NumberSet& set, size_t size) {
  return set == nullptr ? std::vector<float>(size, 0.0F) : *set;
}

NumberSet Freeze(std::vector<float> set) {
  return std::make_shared<const std::vector<float>>(std::move(set));
}

template <typename Step>
void ForEachLearned(const tensor::ModelTopology& topology, const Step& step) {
  for (size_t tensor = 0; tensor < topology.num_tensors(); ++tensor) {
    if (topology.layout()[tensor].buffer) continue;
    const int64_t begin = topology.offset(tensor);
    for (int64_t i = begin; i < begin + topology.stored(tensor); ++i) step(i);
  }
}

void MomentumStep(const v1::Aggregation& settings, const tensor::ModelTopology& topology,
                  std::span<const float> before, std::span<float> aggregate, ServerState& state) {
  const double beta = settings.server_momentum();
  const double rate = settings.server_learning_rate();
  std::vector<float> velocity = Thaw(state.momentum, aggregate.size());
  ForEachLearned(topology, [&](int64_t i) {
    const double change = static_cast<double>(aggregate[i]) - before[i];
    const double v = beta * velocity[i] + change;
    velocity[i] = static_cast<float>(v);
    // x + ηv, written such that it is exactly the aggregate when ηv is the change.
    aggregate[i] = static_cast<float>(aggregate[i] + (rate * v - change));
  });
  state.momentum = Freeze(std::move(velocity));
}

void AdaptiveStep(const v1::Aggregation& settings, const tensor::ModelTopology& topology,
                  std::span<const float> before, std::span<float> aggregate, ServerState& state) {
  const double beta1 = settings.server_beta1();
  const double beta2 = settings.server_beta2();
  const double tau = settings.server_tau();
  const double rate = settings.server_learning_rate();
  const bool yogi = settings.server_optimizer() == v1::Aggregation::SERVER_OPTIMIZER_YOGI;
  std::vector<float> first = Thaw(state.momentum, aggregate.size());
  std::vector<float> second = Thaw(state.second_moment, aggregate.size());
  ForEachLearned(topology, [&](int64_t i) {
    const double change = static_cast<double>(aggregate[i]) - before[i];
    const double square = change * change;
    const double m = beta1 * first[i] + (1 - beta1) * change;
    // 0 marks a weight that is new; else v stays positive.
    const double old = second[i] == 0 ? tau * tau : second[i];
    const double sign = old > square ? 1 : (old < square ? -1 : 0);
    const double v = yogi ? old - (1 - beta2) * square * sign : beta2 * old + (1 - beta2) * square;
    first[i] = static_cast<float>(m);
    second[i] = static_cast<float>(v);
    aggregate[i] = static_cast<float>(before[i] + rate * m / (std::sqrt(v) + tau));
  });
  state.momentum = Freeze(std::move(first));
  state.second_moment = Freeze(std::move(second));
}

}  // namespace

void TakeServerStep(const v1::Aggregation& aggregation, const tensor::ModelTopology& topology,
                    std::span<const float> before, std::span<float> aggregate, ServerState& state) {
  switch (aggregation.server_optimizer()) {
    case v1::Aggregation::SERVER_OPTIMIZER_MOMENTUM:
      return MomentumStep(aggregation, topology, before, aggregate, state);
    case v1::Aggregation::SERVER_OPTIMIZER_ADAM:
    case v1::Aggregation::SERVER_OPTIMIZER_YOGI:
      return AdaptiveStep(aggregation, topology, before, aggregate, state);
    default:
      return;
  }
}

}  // namespace espalier::server::methods
