#include "worker/tasks/network/additions/extrude.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "common/sparsity/drop.h"

namespace espalier::worker::tasks {

double ExtrusionRate(double rate, double cap, double norm, int64_t step, int64_t count) {
  const auto t = static_cast<double>(step);
  const auto steps = static_cast<double>(count);
  const double progress = (2 * steps - 2 * t) / (2 * steps - t);
  const double push = 2 / (1 + std::exp(-norm)) - 1;
  return std::max(rate, progress * push * cap);
}

void Extruder::Begin(engine::Network& network) const {
  if (!asked_.has_extrusion()) return;
  const v1::Extrusion& extrusion = asked_.extrusion();
  const tensor::ModelTopology& topology = *network.topology();
  std::vector<int64_t> marked;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (static_cast<int>(i) >= extrusion.counts_size()) break;
    const int64_t count =
        std::clamp<int64_t>(extrusion.counts(static_cast<int>(i)), 0, topology.stored(i));
    const auto values = network.values().subspan(topology.offset(i), topology.stored(i));
    for (const int32_t index : sparsity::DropSmallestMagnitude(values, count)) {
      marked.push_back(topology.offset(i) + index);
    }
  }
  network.SetPenalty(std::move(marked), 2 * extrusion.lambda());
}

double Extruder::LearningRate(int64_t step, int64_t count, const engine::Network& network) const {
  const double rate = task_.learning_rate();
  if (!asked_.has_extrusion() || !(asked_.extrusion().learning_rate_cap() > 0)) return rate;
  return ExtrusionRate(rate, asked_.extrusion().learning_rate_cap(), network.PenalizedNorm(), step,
                       count);
}

}  // namespace espalier::worker::tasks
