// One batch of examples in the engine's layout: feature-major floats, and labels or targets.
//
// Examples of text become one column per token, those of an example next to each other: its number,
// labelled with the token that follows.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "espalier/v1/worker.pb.h"
#include "worker/data/batch.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/spec.h"
#include "worker/tasks/network/example_form.h"
#include "worker/tasks/network/images.h"

namespace espalier::worker::tasks {

struct BatchBuffer {
  // For `task`'s data and model.
  BatchBuffer(const v1::Task& task, int64_t features, int64_t stride)
      : normalization(data::NormalizationOf(task.data())),
        images(task.data(), task.model().spec(), stride),
        text(FormOf(task.model().spec()).has_tokens()),
        autoencoder(!text && task.data().target() == v1::DataSpec::TARGET_INPUT),
        stride(stride),
        values((text ? 1 : features) * stride),
        labels(stride) {}

  engine::Batch Fill(const data::Dataset& dataset, std::span<const int32_t> indices) {
    if (text) return FillText(dataset, indices);
    data::AssembleBatch(dataset, indices, normalization, values.data(), stride, labels.data());
    const auto size = static_cast<int64_t>(indices.size());
    images.Normalize(values.data(), size);
    return {values.data(), labels.data(), size, stride, TargetsOf(dataset, indices)};
  }

  // What is to be learned in place of labels, feature-major; null: labels.
  const float* TargetsOf(const data::Dataset& dataset, std::span<const int32_t> indices) {
    if (autoencoder) return values.data();
    const int64_t count = dataset.num_targets();
    if (count == 0) return nullptr;
    targets.resize(count * stride);
    for (size_t column = 0; column < indices.size(); ++column) {
      const float* row = dataset.TargetRow(indices[column]);
      for (int64_t i = 0; i < count; ++i) targets[i * stride + column] = row[i];
    }
    return targets.data();
  }

  engine::Batch FillText(const data::Dataset& dataset, std::span<const int32_t> indices) {
    const int64_t context = dataset.features();
    int64_t column = 0;
    for (const int32_t row : indices) {
      for (int64_t i = 0; i < context; ++i, ++column) {
        const float token = dataset.is_bytes() ? static_cast<float>(dataset.ByteRow(row)[i])
                                               : dataset.FloatRow(row)[i];
        values.data()[column] = token;
        if (i > 0) labels[column - 1] = static_cast<int32_t>(token);
      }
      labels[column - 1] = dataset.label(row);
    }
    return {values.data(), labels.data(), column, stride};
  }

  data::Normalization normalization;
  Images images;
  bool text;
  bool autoencoder;  // augmented images are learned as they are then
  int64_t stride;
  engine::AlignedBuffer values;
  std::vector<int32_t> labels;
  std::vector<float> targets;
};

}  // namespace espalier::worker::tasks
