// Saliency of all weights of a network, before it is pruned and trained.
#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/schedule.h"
#include "common/wire/values_codec.h"
#include "worker/engine/synaptic_flow.h"
#include "worker/tasks/network/batch_buffer.h"
#include "worker/tasks/network/network_model.h"

namespace espalier::worker::tasks {
namespace {

absl::Status NotFinite(const char* what) {
  return base::FailedPrecondition("NON_FINITE",
                                  std::string("expected finite scores, found none: ") + what +
                                      "; use another initializer, or normalisation layers");
}

// Numbers at stored weights become numbers at all positions of the sparsifiable tensors.
std::vector<float> AtAllPositions(const tensor::ModelTopology& topology,
                                  std::span<const float> stored) {
  std::vector<float> all(topology.sparsifiable_size());
  int64_t first = 0;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.layout()[i].sparsifiable) continue;
    const auto own = stored.subspan(topology.offset(i), topology.stored(i));
    if (topology.is_sparse(i)) {
      const std::vector<int64_t> positions = topology.topology(i).Positions();
      for (size_t k = 0; k < positions.size(); ++k) all[first + positions[k]] = own[k];
    } else {
      std::ranges::copy(own, all.begin() + first);
    }
    first += topology.layout()[i].size();
  }
  return all;
}

}  // namespace

absl::StatusOr<Measured> NetworkModel::ScoreBySnip() {
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard, TrainingShard());
  const int batch_size = std::max(1, task().score().batch_size());
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network, NetworkFor(batch_size));
  std::vector<int32_t> examples = shard.indices->train;
  base::Rng rng(base::StreamKey(task().seed(), "score", {static_cast<uint64_t>(task().shard())}));
  base::Shuffle(std::span(examples), rng);
  const size_t wanted = static_cast<size_t>(batch_size) * std::max(1, task().score().batches());
  examples.resize(std::min(examples.size(), wanted));
  BatchBuffer buffer(task(), shard.dataset->features(), network->batch_stride());
  std::vector<float> gradients(state().values.size());
  std::vector<float> mean(state().values.size());
  for (size_t begin = 0; begin < examples.size(); begin += batch_size) {
    if (cancelled()) return Cancelled();
    const size_t size = std::min<size_t>(batch_size, examples.size() - begin);
    const engine::BatchResult result = network->Gradients(
        buffer.Fill(*shard.dataset, std::span(examples).subspan(begin, size)), gradients);
    if (!std::isfinite(result.loss_sum)) return NotFinite("the loss of the initial model is not");
    const float share = static_cast<float>(size) / static_cast<float>(examples.size());
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += share * gradients[i];
  }
  for (size_t i = 0; i < mean.size(); ++i) mean[i] *= state().values[i];
  return Measured{static_cast<int64_t>(shard.indices->train.size()),
                  AtAllPositions(*state().topology, mean)};
}

absl::StatusOr<Measured> NetworkModel::ScoreBySynFlow() {
  ESPALIER_ASSIGN_OR_RETURN(
      engine::SynapticFlow flow,
      engine::SynapticFlow::Create(EngineSpec(task().model().spec()), state().topology,
                                   state().values, networks_.threads()));
  const auto weights = static_cast<double>(state().topology->sparsifiable_size());
  const int64_t iterations = std::max(1, task().score().iterations());
  for (int64_t i = 0; i < iterations; ++i) {
    if (cancelled()) return Cancelled();
    flow.Score();
    flow.Prune(std::llround(weights *
                            sparsity::ExponentialDensity(task().score().density(), i, iterations)));
  }
  std::vector<float> scores = flow.NormalizedScores();
  if (!wire::AllFinite(scores)) return NotFinite("what flows through the initial model is not");
  // No example was looked at; the one that stands here makes the partial count.
  return Measured{1, std::move(scores)};
}

absl::StatusOr<Measured> NetworkModel::Score() {
  switch (task().score().criterion()) {
    case v1::ScoreTask::CRITERION_SNIP:
      return ScoreBySnip();
    case v1::ScoreTask::CRITERION_SYNFLOW:
      return ScoreBySynFlow();
    default:
      return base::MakeError(absl::StatusCode::kUnimplemented, "TASK_KIND_UNKNOWN",
                             "expected a criterion of saliency that this worker knows, found "
                             "another; upgrade the worker");
  }
}

}  // namespace espalier::worker::tasks
