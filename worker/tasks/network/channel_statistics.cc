// Statistics of a shard by which networks scale their inputs: means and mean squares of each channel of images, or of each
// column of a table.
#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/values_codec.h"
#include "worker/data/batch.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/tasks/network/network_model.h"

namespace espalier::worker::tasks {

namespace {

// Exact sums have a range, 2^42 for all of up to 2^17 participants, and columns of a table may be
// of any size: each mean is told twice, once as it is, or 0 where it is too large, and once divided
// by kLarge.
constexpr double kLarge = 0x1p60;
constexpr double kRange = 0x1p25;

// Sums of distances from the centers, and of their squares, channel by channel.
struct Sums {
  std::vector<double> distance;
  std::vector<double> square;
};

absl::Status CheckShape(const wire::FeatureShape& input, int64_t features) {
  if (input.channels >= 1 && input.features() == features) return absl::OkStatus();
  return base::InvalidArgument("DATASET_SHAPE_MISMATCH",
                               "expected examples of " + wire::ToText(input) + ", found " +
                                   std::to_string(features) + " features");
}

absl::StatusOr<Sums> SumsOf(const v1::Task& task, const wire::FeatureShape& input,
                            const ShardView& shard, const std::atomic<bool>& cancelled) {
  constexpr int64_t kBatch = 64;
  data::Normalization raw;
  raw.scale = data::NormalizationOf(task.data()).scale;
  engine::AlignedBuffer values(input.features() * kBatch);
  std::vector<int32_t> labels(kBatch);
  Sums sums{std::vector<double>(input.channels), std::vector<double>(input.channels)};
  const auto& centers = task.data().channel_mean();
  const std::span<const int32_t> examples = shard.indices->train;
  for (size_t begin = 0; begin < examples.size(); begin += kBatch) {
    if (cancelled) return Cancelled();
    const auto chosen = examples.subspan(begin, std::min<size_t>(kBatch, examples.size() - begin));
    data::AssembleBatch(*shard.dataset, chosen, raw, values.data(), kBatch, labels.data());
    for (int64_t row = 0; row < input.features(); ++row) {
      const auto channel = static_cast<int>(row / input.positions());
      const double center = centers.empty() ? 0.0 : centers[channel];
      const float* x = values.data() + row * kBatch;
      for (size_t b = 0; b < chosen.size(); ++b) {
        const double distance = x[b] - center;
        sums.distance[channel] += distance;
        sums.square[channel] += distance * distance;
      }
    }
  }
  return sums;
}

// Appends the means in both forms.
absl::Status AppendMeans(const std::vector<double>& sums, double count, double examples,
                         std::vector<float>& values) {
  for (const double sum : sums) {
    const double mean = sum / count;
    values.push_back(std::abs(mean) * examples < kRange ? static_cast<float>(mean) : 0.0F);
  }
  for (const double sum : sums) {
    const double mean = sum / count;
    if (!(std::abs(mean) / kLarge * examples < kRange)) {
      return base::InvalidArgument(
          "VALUE_OUT_OF_RANGE",
          "expected columns whose values, squared and added up, are below 3.8e25, found more; "
          "divide "
          "the column's values in the file, or set data.normalization to given");
    }
    values.push_back(static_cast<float>(mean / kLarge));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Measured> NetworkModel::MeasureChannels() {
  ESPALIER_ASSIGN_OR_RETURN(const ShardView shard, TrainingShard());
  const auto examples = static_cast<double>(shard.indices->train.size());
  const wire::FeatureShape input = wire::InputShape(task().model().spec());
  ESPALIER_RETURN_IF_ERROR(CheckShape(input, shard.dataset->features()));
  ESPALIER_ASSIGN_OR_RETURN(Sums sums, SumsOf(task(), input, shard, cancellation()));
  // Squares of what is far from zero have no digits left for how it differs: none without centers.
  if (task().data().channel_mean().empty()) sums.square.assign(sums.square.size(), 0.0);
  const double count = examples * static_cast<double>(input.positions());
  std::vector<float> values;
  ESPALIER_RETURN_IF_ERROR(AppendMeans(sums.distance, count, examples, values));
  ESPALIER_RETURN_IF_ERROR(AppendMeans(sums.square, count, examples, values));
  return Measured{static_cast<int64_t>(shard.indices->train.size()), std::move(values)};
}

}  // namespace espalier::worker::tasks
