// Rows of tables, and images: one column of a batch each.
#include "worker/tasks/network/rows.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <span>

#include "common/base/status.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/model_spec/transformer.h"
#include "worker/data/load.h"
#include "worker/data/prediction/prediction.h"
#include "worker/tasks/network/batch_buffer.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {
namespace {

// Means and deviations are one for each channel, or none.
absl::Status CheckNormalization(const v1::Task& task) {
  const int64_t channels = wire::InputShape(task.model().spec()).channels;
  const int means = task.data().channel_mean_size();
  const int deviations = task.data().channel_std_size();
  if (means == deviations && (means == 0 || means == channels)) return absl::OkStatus();
  return base::InvalidArgument(
      "DATASET_SHAPE_MISMATCH",
      fmt::format("expected data.channel_mean and data.channel_std for each of {} channels, or "
                  "neither, found {} and {}",
                  channels, means, deviations));
}

// Examples that are predicted at once: few where one of them is large, as activations are then.
int64_t BatchSize(int64_t features) {
  constexpr int64_t kMost = 64;
  constexpr int64_t kValues = int64_t{1} << 20;
  return std::clamp<int64_t>(kValues / std::max<int64_t>(1, features), 1, kMost);
}

}  // namespace

absl::StatusOr<engine::NetworkSpec> RowForm::NetworkSpecOf(const v1::ModelSpec& model,
                                                           int64_t) const {
  return EngineSpec(model);
}

absl::Status RowForm::CheckFits(const data::Dataset& dataset, const v1::Task& task) const {
  const v1::ModelSpec& model = task.model().spec();
  // Labels do not matter to a network that learns its input.
  const bool autoencoder = task.data().target() == v1::DataSpec::TARGET_INPUT;
  const int64_t outputs = autoencoder ? dataset.num_classes() : wire::ClassesOf(model);
  ESPALIER_RETURN_IF_ERROR(data::CheckFits(dataset, model.input_features(), outputs));
  return CheckNormalization(task);
}

absl::StatusOr<std::vector<float>> RowForm::Predict(
    NetworkCache& networks, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model, const v1::Examples& examples,
    const data::LoadOptions& load, const std::atomic<bool>& cancelled) const {
  data::LoadOptions options = load;
  options.cancelled = &cancelled;
  ESPALIER_ASSIGN_OR_RETURN(
      const data::Dataset dataset,
      data::EncodeExamples(examples, task.data(), InputFeatures(task.model().spec()), options));
  return PredictRows(networks, task, model, dataset, cancelled);
}

int64_t InputFeatures(const v1::ModelSpec& model) { return wire::InputShape(model).features(); }

absl::StatusOr<std::vector<float>> PredictRows(
    NetworkCache& networks, const v1::Task& task,
    const std::shared_ptr<const tensor::ModelState>& model, const data::Dataset& dataset,
    const std::atomic<bool>& cancelled) {
  const int64_t batch_size = BatchSize(dataset.features());
  ESPALIER_ASSIGN_OR_RETURN(engine::Network * network,
                            networks.Get(task, model, static_cast<int>(batch_size)));
  BatchBuffer buffer(task, dataset.features(), network->batch_stride());
  std::vector<int32_t> rows(static_cast<size_t>(dataset.size()));
  std::iota(rows.begin(), rows.end(), 0);
  std::vector<int64_t> columns(static_cast<size_t>(batch_size));
  std::iota(columns.begin(), columns.end(), int64_t{0});
  std::vector<float> outputs(rows.size() * static_cast<size_t>(network->outputs()));
  std::span<float> rest = outputs;
  for (size_t begin = 0; begin < rows.size(); begin += static_cast<size_t>(batch_size)) {
    if (cancelled) return Cancelled();
    const size_t count = std::min<size_t>(static_cast<size_t>(batch_size), rows.size() - begin);
    const size_t size = count * static_cast<size_t>(network->outputs());
    network->Predict(buffer.Fill(dataset, std::span(rows).subspan(begin, count)),
                     std::span(columns).first(count), rest.first(size));
    rest = rest.subspan(size);
  }
  return outputs;
}

}  // namespace espalier::worker::tasks
