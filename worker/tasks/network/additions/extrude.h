// Extruder: before weights are dropped, training pushes what they hold into the others (FedMef's
// budget-aware extrusion).
//
// In each tensor the asked number of weights of smallest magnitude at the start is marked; λ‖marked
// weights‖² is added to the loss, and the learning rate gets a floor that falls as REX does.
// Memory:      8 bytes per marked weight, and one array as long as the largest weight.
// Threading:   one task at a time.
// Source:      Huang et al., FedMef, CVPR 2024.
#pragma once

#include "common/wire/model_spec/train_additions.h"
#include "espalier/v1/worker.pb.h"
#include "worker/engine/network.h"

namespace espalier::worker::tasks {

class Extruder {
 public:
  explicit Extruder(const v1::TrainTask& task)
      : task_(task), asked_(wire::AdditionOf(task, v1::TrainAddition::kExtrusion)) {}

  // Marks weights of `network` as it is now; nothing when the task does not ask for it.
  void Begin(engine::Network& network) const;
  // Of local step `step` (from 0) of `count`.
  double LearningRate(int64_t step, int64_t count, const engine::Network& network) const;

 private:
  const v1::TrainTask& task_;
  const v1::TrainAddition& asked_;
};

// max(rate, (2T − 2t) / (2T − t) · (2σ(norm) − 1) · cap) at step t of T, with σ the logistic
// function.
double ExtrusionRate(double rate, double cap, double norm, int64_t step, int64_t count);

}  // namespace espalier::worker::tasks
