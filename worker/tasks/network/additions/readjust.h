// Readjuster: a participant's own change of structure in the middle of its training (FedDST).
//
// In each tensor the asked number of weights of smallest magnitude goes, and as many inactive
// positions of largest |gradient| of the last minibatch, at the weights before the change, come
// with value 0.
// Memory:      that of Network::GrowthCandidates() and Restructure(); nothing dense.
// Threading:   one task at a time. Determinism: as growth candidates.
// Source:      Bibikar et al., AAAI 2022.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/topology_codec.h"
#include "espalier/v1/worker.pb.h"
#include "worker/engine/network.h"

namespace espalier::worker::tasks {

class Readjuster {
 public:
  explicit Readjuster(const v1::TrainTask& task)
      : asked_(wire::AdditionOf(task, v1::TrainAddition::kReadjustment)) {}

  // Whether the change comes after local step `step` (from 0) of `count`.
  bool IsDue(int64_t step, int64_t count) const;
  absl::Status Readjust(const engine::Batch& batch, engine::Network& network);
  // The change from `base`, with which the task began, as the bytes of a TopologyUpdate.
  absl::StatusOr<std::string> Encode(const tensor::ModelTopology& base) const;

 private:
  const v1::TrainAddition& asked_;
  std::vector<wire::TensorChange> changes_;
  std::shared_ptr<const tensor::ModelTopology> updated_;
};

}  // namespace espalier::worker::tasks
