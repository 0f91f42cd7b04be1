// Losses on feature-major outputs [classes][stride].
#pragma once

#include <cstdint>
#include <vector>

#include "worker/engine/spec.h"

namespace espalier::worker::engine {

// What the softmax of each of `size` columns of logits is made of: the logarithm of the probability
// of row r is logit − top − ln sum, the probability exp(logit − top) / sum.
struct ColumnSoftmax {
  std::vector<float> top;     // the largest logit
  std::vector<int32_t> best;  // its row, the lowest on ties
  std::vector<double> sum;    // Σ exp(logit − top)
};
// Of logits [classes][stride]. Unless it is null, `exponentials`, of the same shape, gets
// exp(logit − top).
ColumnSoftmax SoftmaxOfColumns(const float* logits, int64_t classes, int64_t stride, int64_t size,
                               float* exponentials);

// The outputs of one column, `stride` apart, to `to`; as probabilities where they are `logits`:
// exp(logit − top) / Σ exp(logit − top), summed in double in the order of the rows.
void CopyOutputs(const float* column, int64_t outputs, int64_t stride, bool logits, float* to);

// What is computed.
struct LossKind {
  Loss loss;
  Activation activation;  // of the last layer
  const LossOptions& options;
};

// Sums the loss over the examples of `batch` and, where `delta` is not null, writes the gradient of
// the *mean* loss to delta [classes][stride], zero in the columns [size, width): that is training,
// where LossOptions count.
// kCrossEntropy:       `output` holds logits, or probabilities when the activation is softmax;
//                      delta is the gradient with respect to the logits.
// kBinaryCrossEntropy: `output` holds sigmoids; delta is the gradient with respect to their inputs.
// Others:              delta is the gradient with respect to the output.
// Labels must be in [0, classes). Sequential: the same bits for any thread count.
BatchResult ComputeLoss(const LossKind& kind, const float* output, const Batch& batch,
                        int64_t classes, int64_t width, float* delta);

}  // namespace espalier::worker::engine
