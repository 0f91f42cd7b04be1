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
    for (size_t i = 0; i < topology->num_tensors(); ++i) {
      const tensor::TensorSpec& spec = topology->layout()[i];
      tensors.emplace_back(spec.rows, spec.cols, topology->shared_topology(i).get(),
                           values.data() + topology->offset(i));
    }
  }
  // `tensors` point into `values`.
  Snapshot(const Snapshot&) = delete;
  Snapshot& operator=(const Snapshot&) = delete;

  std::shared_ptr<const tensor::ModelTopology> topology;
  std::vector<float> values;
  std::vector<RowTensor> tensors;
};

}  // namespace espalier::worker::recommender
