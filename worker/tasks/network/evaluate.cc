// Evaluation of networks: loss and accuracy on the test examples of a shard, or on the whole test
// split; or on the development part of a shard's training examples.
#include <algorithm>
#include <span>

#include "common/base/status.h"
#include "worker/tasks/network/batch_buffer.h"
#include "worker/tasks/network/development.h"
#include "worker/tasks/network/evaluation_sums.h"
#include "worker/tasks/network/network_model.h"

namespace espalier::worker::tasks {

absl::StatusOr<Partial> NetworkModel::Evaluate() {
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard, Shard());
  const int batch_size = std::max(1, task().evaluate().batch_size());
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network, NetworkFor(batch_size));
  BatchBuffer buffer(task(), shard.dataset->features(), network->batch_stride());
  const double development = task().evaluate().development_fraction();
  const std::vector<int32_t> examples = development > 0
                                            ? DevelopmentSet(task(), shard, development, batch_size)
                                            : shard.indices->test;
  Partial partial;
  double loss_sum = 0;
  int64_t correct = 0;
  const bool sums_wanted = !form_.has_tokens();
  EvaluationSums sums(task(), network->outputs());
  for (size_t begin = 0; begin < examples.size(); begin += batch_size) {
    if (cancelled()) return Cancelled();
    const auto chosen =
        std::span(examples).subspan(begin, std::min<size_t>(batch_size, examples.size() - begin));
    const engine::Batch batch = buffer.Fill(*shard.dataset, chosen);
    const engine::BatchResult result = network->Evaluate(batch);
    loss_sum += result.loss_sum;
    correct += result.correct;
    if (sums_wanted) sums.Add(batch, network->last_outputs());
  }
  partial.header.set_examples(static_cast<int64_t>(examples.size()) *
                              form_.ColumnsPerExample(task()));
  partial.header.set_loss_sum(loss_sum);
  partial.header.set_correct(correct);
  if (sums_wanted) sums.Write(partial);
  return partial;
}

absl::StatusOr<std::vector<float>> NetworkModel::Predict(const v1::Examples& examples) {
  return form_.Predict(networks_, task(), shared_state(), examples, load_, cancellation());
}

}  // namespace espalier::worker::tasks
