// What training a network costs a worker: floating-point operations by count, and memory.
//
// Units:       FLOPs of one example that training draws; bytes. `stored` counts the stored values
//              of each tensor, in layout order.
// Threading:   immutable. Determinism: exact.
// Errors:      those of TensorsOf().
// Source:      FLOPs by the convention of the FedTiny papers: a weight costs 2 per output position
//              forwards and twice that backwards; biases, normalisation, activation and loss are
//              not counted. Products without weights cost 2 per multiplication and addition, and
//              twice that backwards, too:
//              - transformer, T tokens an example: each weight of a projection has T output
//                positions, the output matrix (or the embedding that serves as one) as well; a
//                block's attention 2 · T·(T + 1) · heads · head size, as token t attends to t + 1
//                tokens; looking an embedding or a position up costs nothing;
//              - NeuMF and AutoInt, P = 1 + negatives pairs an interaction: each weight of a dense
//                layer P positions, of an attention layer P · fields, whose scores and sums cost
//                4 · fields² · units a pair; tables are looked up;
//              - MultVAE, an example is a user: each weight 1 position, of encoder.items only the
//                rows of the user's items;
//              - LightGCN, dimensions d: 4 · d a triple for its two scores, and in every step, for
//                users and items and each layer, one product of the graph: 2 · interactions · d.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/wire/model_spec/families/model_family.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/shapes.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::wire {

// What one participant trains on in a round.
struct TrainingLoad {
  int64_t steps = 0;  // of batch_size examples; 0: passes
  double passes = 0;  // over its examples; MultVAE: over its users
  int64_t batch_size = 1;
  double examples = 0;  // that it has; interactions of a recommender
};

class ModelCost {
 public:
  static absl::StatusOr<ModelCost> Create(const v1::ModelSpec& spec);
  // With what a job says of its examples: tokens of a text, into how many shares users go.
  static absl::StatusOr<ModelCost> Create(const v1::JobSpec& job);

  // `load` matters to recommenders only.
  double ForwardFlops(std::span<const int64_t> stored, const TrainingLoad& load = {}) const;
  double DenseForwardFlops(const TrainingLoad& load = {}) const;
  // Forward and backward.
  double TrainFlops(std::span<const int64_t> stored, const TrainingLoad& load = {}) const {
    return 3 * ForwardFlops(stored, load);
  }
  // The gradient of all weights of one tensor, stored or not.
  double FullGradientFlops(size_t tensor, const TrainingLoad& load = {}) const;
  // All of one participant's local training.
  double LoadFlops(std::span<const int64_t> stored, const TrainingLoad& load) const {
    return Drawn(load) * TrainFlops(stored, load);
  }

  // What participants did in one round: local training on `examples` examples in all (shares of
  // equal size, each passed local_epochs times), and gradients at all positions of tensors with
  // growth candidates, or in every minibatch of sparse ones where importance was asked for. Frozen
  // weights have no gradient.
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
    bool looked_up = false;  // encoder.items of MultVAE: a row for each item of a user
    bool convolution = false;
    bool transformed = false;
  };
  // Of one example: the gradients of frozen weights, which nobody computes.
  double FrozenFlops(const v1::Training& training, std::span<const int64_t> stored,
                     const TrainingLoad& load) const;
  double Users() const;
  double Drawn(const TrainingLoad& load) const;
  double Positions(const Tensor& tensor, const TrainingLoad& load) const;
  double Products(const TrainingLoad& load) const;

  std::vector<Tensor> tensors_;
  tensor::ModelLayout layout_;
  ExampleCost example_;
  int64_t shards_ = 1;  // that users are divided into
  int64_t input_features_ = 0;
  Outputs outputs_;
  int deltas_ = 2;  // gradients of activations that exist at once
};

}  // namespace espalier::wire
