// What a network is made of and how it learns: plain values, checked by Network::Create().
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "common/sparsity/top_k.h"
#include "common/tensor/layer_spec.h"

namespace espalier::worker::engine {

using tensor::Activation;
using tensor::LayerKind;
using tensor::LayerSpec;

// The loss of an example, summed over its outputs. Targets are the batch's, or where it has none, 1
// at the label's output and 0 elsewhere.
//
// kCrossEntropy:       of labels; softmax over the last layer, whose activation is linear or
//                      softmax.
// kBinaryCrossEntropy: the cross-entropy of each sigmoid output alone.
// kMeanSquaredError:   ½ (output − target)².
// kMeanAbsoluteError:  |output − target|.
// kHuber:              ½ e² for an error e of at most delta, delta · (|e| − ½ delta) beyond.
enum class Loss {
  kCrossEntropy,
  kBinaryCrossEntropy,
  kMeanSquaredError,
  kMeanAbsoluteError,
  kHuber
};

// What changes a loss while training. Evaluation has kCrossEntropy as it is.
struct LossOptions {
  double huber_delta = 1;  // kHuber, also in evaluation; > 0
  std::vector<float> class_weights =
      {};                      // kCrossEntropy: factor of an example by its label; none: 1
  double label_smoothing = 0;  // kCrossEntropy: share of the target spread over all classes; [0, 1)
};

// Where dropout makes up for what it drops: kept outputs are multiplied by 1 / (1 − p) while
// training, or all outputs by 1 − p otherwise (Srivastava et al., JMLR 15, 2014).
enum class DropoutScaling { kTraining, kEvaluation };

// Which arithmetic runs the layers: kReference is naive and slow, kOneDnn is the product.
enum class BackendKind { kReference, kOneDnn };

// channels × height × width values, stored in this order. Plain features have height = width = 1.
struct MapShape {
  int64_t channels = 0;
  int64_t height = 1;
  int64_t width = 1;
  int64_t positions() const { return height * width; }
  int64_t features() const { return channels * height * width; }
};

struct NetworkSpec {
  int64_t input_features = 0;
  std::vector<LayerSpec> layers;  // the last one is linear or a tied output
  Loss loss = Loss::kCrossEntropy;
  LossOptions loss_options = {};
  double input_dropout = 0;
  double input_noise = 0;  // standard deviation of what is added to inputs while training
  DropoutScaling dropout_scaling = DropoutScaling::kTraining;
  MapShape input_image = {};  // of input_features values; no channels: plain features
  // Share of the stored inputs of layers with weights, smallest magnitudes first, that weight
  // gradients take as 0. Everything else is exact.
  double activation_pruning = 0;
  // Columns of a batch that belong together: the tokens of one example, next to each other. Batches
  // then have whole examples, and sizes, labels and results count tokens.
  int64_t sequence = 1;
};

// Update rules, with g the mean gradient of the batch, η the learning rate, λ the weight decay:
//
// - SGD, coupled decay (PyTorch's form):
//   g += λw; v = μv + g; w −= η·(Nesterov ? g + μv : v)
// - SGD, decoupled decay (SET authors' form; the decay is not multiplied by η):
//   v = μv − ηg; w += (Nesterov ? μv − ηg : v) − λw
// - Adam, coupled decay: g += λw, then Kingma and Ba (2015) with bias correction.
// - Adam, decoupled decay (AdamW; the decay is multiplied by η): w −= ηλw, then the same.
//
// Biases, scales and shifts are treated like weights. Running statistics are not learned.
struct OptimizerSpec {
  enum class Kind { kSgd, kAdam };
  Kind kind = Kind::kSgd;
  double momentum = 0;
  bool nesterov = false;
  double weight_decay = 0;
  bool decoupled_weight_decay = false;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  // Of recommenders, whose tensors are rows (recommender/row_parameters.h): rows whose gradient is
  // all zero in a step keep value, momentum and moments. Networks have no such rows and ignore it.
  bool lazy_rows = false;
};

// What is added to the gradient of each value before the update rule sees it, weight decay
// included. Borrowed, one float per value; empty: nothing. Sources: FedProx (Li et al. 2020),
// SCAFFOLD (Karimireddy et al. 2020).
struct GradientTerms {
  double proximal_mu = 0;                 // mu · (w − reference)
  std::span<const float> reference = {};  // not empty where proximal_mu > 0
  std::span<const float> correction = {};
};

// Examples to learn from, borrowed for the call.
// `features` is feature-major [input_features][stride]; the columns [size, stride) are zero. Rows
// aligned to 64 bytes (AlignedBuffer) are fastest. `labels` are in [0, units of the last layer):
// whoever reads the data checks that.
struct Batch {
  const float* features = nullptr;
  const int32_t* labels = nullptr;
  int64_t size = 0;
  int64_t stride = 0;
  // Numbers to be learned in place of labels, [outputs][stride]; null: labels. Not with
  // kCrossEntropy.
  const float* targets = nullptr;
};

// Sums over the examples of a batch. `correct` counts arg max = label, the lowest index on ties.
struct BatchResult {
  double loss_sum = 0;
  int64_t correct = 0;
};

// Flat positions of a tensor, ascending, and a value at each.
using ScoreList = sparsity::ScoredPositions;

}  // namespace espalier::worker::engine
