// Task kind `channel_statistics`: means and mean squares of each channel of images, or of each
// column of a table, over the shard.
#include <span>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/values_codec.h"
#include "worker/data/batch.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {

absl::StatusOr<Partial> RunChannelStatistics(Surroundings& surroundings, const v1::Task& task) {
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard, surroundings.data.Get(task));
  const std::span<const int32_t> examples = shard.indices->train;
  if (examples.empty()) return NoTrainingExamples(task);
  const wire::FeatureShape input = wire::InputShape(task.model().spec());
  const int64_t positions = input.height * input.width;
  if (input.channels < 1 || input.channels * positions != shard.dataset->features()) {
    return base::InvalidArgument("DATASET_SHAPE_MISMATCH",
                                 "expected examples of " + wire::ToText(input) + ", found " +
                                     std::to_string(shard.dataset->features()) + " features");
  }
  // Squares of what is far from zero have no digits left for how it differs.
  const auto& centers = task.data().channel_mean();
  if (!centers.empty() && centers.size() != input.channels) {
    return base::InvalidArgument("DATASET_SHAPE_MISMATCH", "expected a channel_mean for each of " +
                                                               std::to_string(input.channels) +
                                                               " channels, found " +
                                                               std::to_string(centers.size()));
  }
  constexpr int64_t kBatch = 64;
  data::Normalization raw;
  raw.scale = data::NormalizationOf(task.data()).scale;
  engine::AlignedBuffer values(shard.dataset->features() * kBatch);
  std::vector<int32_t> labels(kBatch);
  std::vector<double> sums(2 * input.channels, 0.0);
  for (size_t begin = 0; begin < examples.size(); begin += kBatch) {
    if (surroundings.cancelled) return Cancelled();
    const auto chosen = examples.subspan(begin, std::min<size_t>(kBatch, examples.size() - begin));
    data::AssembleBatch(*shard.dataset, chosen, raw, values.data(), kBatch, labels.data());
    for (int64_t row = 0; row < input.channels * positions; ++row) {
      const auto channel = static_cast<int>(row / positions);
      const double center = centers.empty() ? 0.0 : centers[channel];
      const float* x = values.data() + row * kBatch;
      for (size_t b = 0; b < chosen.size(); ++b) {
        const double distance = x[b] - center;
        sums[channel] += distance;
        sums[input.channels + channel] += distance * distance;
      }
    }
  }
  std::vector<float> means;
  means.reserve(sums.size());
  const double count = static_cast<double>(examples.size()) * static_cast<double>(positions);
  for (const double sum : sums) means.push_back(static_cast<float>(sum / count));
  Partial partial;
  partial.header.set_examples(static_cast<int64_t>(examples.size()));
  partial.header.set_values_count(means.size());
  partial.body = std::string(wire::ValuesAsBytes(means));
  return partial;
}

}  // namespace espalier::worker::tasks
