#include "worker/engine/loss.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace espalier::worker::engine {
namespace {

// One example: the column `column` of the output.
struct Column {
  const float* output;
  int64_t stride;
  int64_t classes;
  float at(int64_t row) const { return output[row * stride]; }

  int64_t ArgMax() const {
    int64_t best = 0;
    for (int64_t row = 1; row < classes; ++row) {
      if (at(row) > at(best)) best = row;
    }
    return best;
  }
};

// What an example's loss is taken from: the numbers to be learned, or its label.
struct Target {
  const float* targets;  // its column; null: the label
  int64_t stride;
  int32_t label;
  float at(int64_t row) const {
    if (targets != nullptr) return targets[row * stride];
    return row == label ? 1.0F : 0.0F;
  }
};

// What an example counts, and how its target is smoothed.
struct ClassTarget {
  int32_t label;
  float weight;
  float smoothing;  // of each class
  float at(int64_t row) const { return smoothing + (row == label ? 1.0F - total : 0.0F); }
  float total;  // smoothing of all classes together
};

ClassTarget ClassTargetOf(const LossOptions* options, int32_t label, int64_t classes) {
  if (options == nullptr) return {label, 1, 0, 0};
  const auto total = static_cast<float>(options->label_smoothing);
  return {label, options->class_weights.empty() ? 1.0F : options->class_weights[label],
          total / static_cast<float>(classes), total};
}

double CrossEntropyOfProbabilities(const Column& column, const ClassTarget& target, float scale,
                                   float* delta) {
  scale *= target.weight;
  // A probability that underflowed to 0 counts as the smallest normal number, not as infinite loss.
  const auto log_of = [&](int64_t row) {
    return std::log(std::max(column.at(row), std::numeric_limits<float>::min()));
  };
  double loss = -log_of(target.label);
  if (target.total > 0) {
    loss *= 1.0 - target.total;
    for (int64_t row = 0; row < column.classes; ++row) loss -= target.smoothing * log_of(row);
  }
  for (int64_t row = 0; delta != nullptr && row < column.classes; ++row) {
    delta[row * column.stride] = scale * (column.at(row) - target.at(row));
  }
  return target.weight * loss;
}

double BinaryCrossEntropy(const Column& column, const Target& target, float scale, float* delta) {
  // A probability that underflowed to 0 counts as the smallest normal number, not as infinite loss;
  // one that was rounded to 1 as half a step below it.
  constexpr double kLeast = std::numeric_limits<float>::min();
  constexpr double kLeastComplement = 0x1p-25;
  double sum = 0;
  for (int64_t row = 0; row < column.classes; ++row) {
    const double output = column.at(row);
    sum -= std::log(target.at(row) == 1 ? std::max(output, kLeast)
                                        : std::max(1.0 - output, kLeastComplement));
    if (delta != nullptr) delta[row * column.stride] = scale * (column.at(row) - target.at(row));
  }
  return sum;
}

// Loss and slope of one output's error.
struct ErrorLoss {
  double loss;
  float slope;
};

ErrorLoss LossOfError(Loss loss, float error, double huber_delta) {
  const double size = std::abs(error);
  const bool square =
      loss == Loss::kMeanSquaredError || (loss == Loss::kHuber && size <= huber_delta);
  if (square) return {0.5 * error * error, error};
  const float sign = error > 0 ? 1.0F : error < 0 ? -1.0F : 0.0F;
  if (loss == Loss::kMeanAbsoluteError) return {size, sign};
  return {huber_delta * (size - 0.5 * huber_delta), sign * static_cast<float>(huber_delta)};
}

double LossOfErrors(Loss loss, double huber_delta, const Column& column, const Target& target,
                    float scale, float* delta) {
  double sum = 0;
  for (int64_t row = 0; row < column.classes; ++row) {
    const ErrorLoss of = LossOfError(loss, column.at(row) - target.at(row), huber_delta);
    sum += of.loss;
    if (delta != nullptr) delta[row * column.stride] = scale * of.slope;
  }
  return sum;
}

// Σ over examples of weight · Σ over classes of −target · log p.
double SmoothedLosses(const LossOptions& options, const ColumnSoftmax& softmax, const float* logits,
                      const int32_t* labels, int64_t classes, int64_t stride, int64_t size) {
  double sum = 0;
  for (int64_t b = 0; b < size; ++b) {
    const ClassTarget target = ClassTargetOf(&options, labels[b], classes);
    const double top = std::log(softmax.sum[b]) + softmax.top[b];
    double loss = (1.0 - target.total) * (top - logits[labels[b] * stride + b]);
    for (int64_t row = 0; target.total > 0 && row < classes; ++row) {
      loss += target.smoothing * (top - logits[row * stride + b]);
    }
    sum += target.weight * loss;
  }
  return sum;
}

// Of logits: row by row, since classes may be many.
// `options` only while training.
BatchResult CrossEntropyOfLogits(const LossOptions* options, const float* logits,
                                 const int32_t* labels, int64_t classes, int64_t stride,
                                 int64_t size, float* delta) {
  const ColumnSoftmax softmax = SoftmaxOfColumns(logits, classes, stride, size, delta);
  BatchResult result;
  for (int64_t b = 0; b < size; ++b) {
    result.loss_sum += std::log(softmax.sum[b]) + softmax.top[b] - logits[labels[b] * stride + b];
    result.correct += softmax.best[b] == labels[b] ? 1 : 0;
  }
  if (delta == nullptr) return result;
  const float scale = 1.0F / static_cast<float>(size);
  std::vector<float> inverse(size);
  for (int64_t b = 0; b < size; ++b) inverse[b] = static_cast<float>(1.0 / softmax.sum[b]);
  if (options != nullptr) {
    result.loss_sum = SmoothedLosses(*options, softmax, logits, labels, classes, stride, size);
    for (int64_t row = 0; row < classes; ++row) {
      float* of_row = delta + row * stride;
      for (int64_t b = 0; b < size; ++b) {
        const ClassTarget target = ClassTargetOf(options, labels[b], classes);
        of_row[b] = scale * target.weight * (of_row[b] * inverse[b] - target.at(row));
      }
    }
    return result;
  }
  for (int64_t row = 0; row < classes; ++row) {
    float* of_row = delta + row * stride;
    for (int64_t b = 0; b < size; ++b) {
      of_row[b] = scale * (of_row[b] * inverse[b] - (row == labels[b] ? 1.0F : 0.0F));
    }
  }
  return result;
}

}  // namespace

ColumnSoftmax SoftmaxOfColumns(const float* logits, int64_t classes, int64_t stride, int64_t size,
                               float* exponentials) {
  ColumnSoftmax softmax = {.top = std::vector<float>(logits, logits + size),
                           .best = std::vector<int32_t>(size),
                           .sum = std::vector<double>(size)};
  for (int64_t row = 1; row < classes; ++row) {
    const float* of_row = logits + row * stride;
    for (int64_t b = 0; b < size; ++b) {
      if (!(of_row[b] > softmax.top[b])) continue;
      softmax.top[b] = of_row[b];
      softmax.best[b] = static_cast<int32_t>(row);
    }
  }
  for (int64_t row = 0; row < classes; ++row) {
    const int64_t first = row * stride;
    for (int64_t b = 0; b < size; ++b) {
      const float exponential = std::exp(logits[first + b] - softmax.top[b]);
      softmax.sum[b] += exponential;
      if (exponentials != nullptr) exponentials[first + b] = exponential;
    }
  }
  return softmax;
}

void CopyOutputs(const float* column, int64_t outputs, int64_t stride, bool logits, float* to) {
  for (int64_t row = 0; row < outputs; ++row) to[row] = column[row * stride];
  if (!logits) return;
  const float top = *std::max_element(to, to + outputs);
  double sum = 0;
  for (int64_t row = 0; row < outputs; ++row) {
    to[row] = std::exp(to[row] - top);
    sum += to[row];
  }
  for (int64_t row = 0; row < outputs; ++row) to[row] = static_cast<float>(to[row] / sum);
}

BatchResult ComputeLoss(const LossKind& kind, const float* output, const Batch& batch,
                        int64_t classes, int64_t width, float* delta) {
  const int64_t stride = batch.stride;
  const int64_t size = batch.size;
  const LossOptions& options = kind.options;
  const bool changed = !options.class_weights.empty() || options.label_smoothing > 0;
  const LossOptions* while_training = delta != nullptr && changed ? &options : nullptr;
  const bool logits = kind.loss == Loss::kCrossEntropy && kind.activation != Activation::kSoftmax;
  BatchResult result;
  if (logits) {
    result =
        CrossEntropyOfLogits(while_training, output, batch.labels, classes, stride, size, delta);
  }
  const float scale = 1.0F / static_cast<float>(size);
  for (int64_t b = 0; !logits && b < size; ++b) {
    const Column column = {output + b, stride, classes};
    float* column_delta = delta == nullptr ? nullptr : delta + b;
    const Target target = {batch.targets == nullptr ? nullptr : batch.targets + b, stride,
                           batch.labels[b]};
    if (kind.loss == Loss::kCrossEntropy) {
      result.loss_sum += CrossEntropyOfProbabilities(
          column, ClassTargetOf(while_training, target.label, classes), scale, column_delta);
    } else if (kind.loss == Loss::kBinaryCrossEntropy) {
      result.loss_sum += BinaryCrossEntropy(column, target, scale, column_delta);
    } else {
      result.loss_sum +=
          LossOfErrors(kind.loss, options.huber_delta, column, target, scale, column_delta);
    }
    if (batch.targets == nullptr) result.correct += column.ArgMax() == target.label ? 1 : 0;
  }
  for (int64_t row = 0; delta != nullptr && row < classes; ++row) {
    std::fill(delta + row * stride + size, delta + row * stride + width, 0.0F);
  }
  return result;
}

}  // namespace espalier::worker::engine
