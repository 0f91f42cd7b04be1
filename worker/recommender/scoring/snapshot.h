// The values of a model at one time, for scorers that outlive the next step.
#pragma once

#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "common/tensor/model.h"
#include "worker/recommender/row_parameters.h"

namespace espalier::worker::recommender {

struct Snapshot {
  Snapshot(std::shared_ptr<const tensor::ModelTopology> of, std::span<const float> from)
      : topology(std::move(of)), values(from.begin(), from.end()) {
    tensors = engine::RowTensorsOf(*topology, values.data());
  }
  // `tensors` point into `values`.
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  std::shared_ptr<const tensor::ModelTopology> topology;
  std::vector<float> values;
  std::vector<RowTensor> tensors;
};

}  // namespace espalier::worker::recommender
