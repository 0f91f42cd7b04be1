// One batch of examples in the engine's layout: feature-major floats and labels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "espalier/v1/worker.pb.h"
#include "worker/data/batch.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/spec.h"
#include "worker/tasks/images.h"

namespace espalier::worker::tasks {

struct BatchBuffer {
  // For `task`'s data and model.
  BatchBuffer(const v1::Task& task, int64_t features, int64_t stride)
      : normalization(data::NormalizationOf(task.data())),
        images(task.data(), task.model().spec(), stride),
        stride(stride),
        values(features * stride),
        labels(stride) {}

  engine::Batch Fill(const data::Dataset& dataset, std::span<const int32_t> indices) {
    data::AssembleBatch(dataset, indices, normalization, values.data(), stride, labels.data());
    const auto size = static_cast<int64_t>(indices.size());
    images.Normalize(values.data(), size);
    return {values.data(), labels.data(), size, stride};
  }

  data::Normalization normalization;
  Images images;
  int64_t stride;
  engine::AlignedBuffer values;
  std::vector<int32_t> labels;
};

}  // namespace espalier::worker::tasks
