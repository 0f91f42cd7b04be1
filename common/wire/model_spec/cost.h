// What training a network costs a worker: floating-point operations by count, and memory.
//
// Units:       FLOPs of one example; bytes. `stored` counts the stored values of each tensor, in
//              layout order.
// Threading:   immutable. Determinism: exact.
// Errors:      those of TensorsOf().
// Source:      FLOPs by the convention of the FedTiny papers: a weight costs 2 per output position
//              forwards and twice that backwards; biases, normalisation, activation and loss are
//              not counted.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/shapes.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::wire {

class ModelCost {
 public:
  static absl::StatusOr<ModelCost> Create(const v1::ModelSpec& spec);

  double ForwardFlops(std::span<const int64_t> stored) const;
  double DenseForwardFlops() const;
  // Forward and backward.
  double TrainFlops(std::span<const int64_t> stored) const { return 3 * ForwardFlops(stored); }
  // The gradient of all weights of one tensor, stored or not.
  double FullGradientFlops(size_t tensor) const;

  // What participants did in one round: local training on `examples` examples in all (shards, each
  // passed local_epochs times), and gradients at all positions of tensors with growth candidates,
  // or in every minibatch of sparse ones where importance was asked for.
  struct RoundFlops {
    double actual = 0;
    double dense = 0;  // the same training of a dense model
  };
  RoundFlops OfRound(const v1::TrainTask& task, std::span<const int64_t> stored,
                     int64_t participants, int64_t examples) const;

  // Peak memory of a worker that trains in minibatches of `batch_size`: its model with everything
  // that goes with each weight, activations, and the process itself. Without the data set, whose
  // size its worker knows. An estimate: what libraries allocate for their own use is a constant.
  int64_t WorkerBytes(std::span<const int64_t> stored, const v1::Training& training) const;

 private:
  struct Tensor {
    int64_t size = 0;
    int64_t positions = 0;
    bool convolution = false;
    bool standardized = false;
  };
  std::vector<Tensor> tensors_;
  int64_t input_features_ = 0;
  Outputs outputs_;
  int deltas_ = 2;  // gradients of activations that exist at once
};

}  // namespace espalier::wire
