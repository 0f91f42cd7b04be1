// One batch of examples in the engine's layout: feature-major floats and labels.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/data/batch.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/spec.h"

namespace espalier::worker::tasks {

struct BatchBuffer {
  BatchBuffer(int64_t features, int64_t stride)
      : stride(stride), values(features * stride), labels(stride) {}

  engine::Batch Fill(const data::Dataset& dataset, std::span<const int32_t> indices,
                     const data::Normalization& normalization) {
    data::AssembleBatch(dataset, indices, normalization, values.data(), stride, labels.data());
    return {values.data(), labels.data(), static_cast<int64_t>(indices.size()), stride};
  }

  int64_t stride;
  engine::AlignedBuffer values;
  std::vector<int32_t> labels;
};

}  // namespace espalier::worker::tasks
