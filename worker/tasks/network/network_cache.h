// NetworkCache: the engine's network of the last task, and what a description of layers means to
// the engine.
//
// Threading: one caller at a time.
// Errors:    those of engine::Network::Create().
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"
#include "worker/engine/network.h"
#include "worker/engine/spec.h"

namespace espalier::worker::tasks {

// A task on the same structure as the last one only sets new values.
class NetworkCache {
 public:
  explicit NetworkCache(int threads) : threads_(threads) {}
  // A network for `task`'s model with `model`'s values and fresh optimizer state, for batches of up
  // to `batch_size` examples.
  absl::StatusOr<engine::Network*> Get(const v1::Task& task,
                                       const std::shared_ptr<const tensor::ModelState>& model,
                                       int batch_size);
  int threads() const { return threads_; }
  // Lets go of the network: after an error it is of no more use.
  void Forget() { network_ = nullptr; }

 private:
  int threads_;
  std::string structure_;
  std::string optimizer_;
  std::string loss_;
  double activation_pruning_ = 0;
  std::unique_ptr<engine::Network> network_;
};

// The network that a model of layers stands for.
engine::NetworkSpec EngineSpec(const v1::ModelSpec& model);
engine::OptimizerSpec OptimizerSpecOf(const v1::Optimizer& optimizer);

}  // namespace espalier::worker::tasks
