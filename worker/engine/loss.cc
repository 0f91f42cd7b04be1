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

double CrossEntropyOfProbabilities(const Column& column, int32_t label, float scale, float* delta) {
  for (int64_t row = 0; delta != nullptr && row < column.classes; ++row) {
    delta[row * column.stride] = scale * (column.at(row) - (row == label ? 1.0F : 0.0F));
  }
  // A probability that underflowed to 0 counts as the smallest normal number, not as infinite loss.
  return -std::log(std::max(column.at(label), std::numeric_limits<float>::min()));
}

double BinaryCrossEntropy(const Column& column, int32_t label, float scale, float* delta) {
  // A probability that underflowed to 0 counts as the smallest normal number, not as infinite loss;
  // one that was rounded to 1 as half a step below it.
  constexpr double kLeast = std::numeric_limits<float>::min();
  constexpr double kLeastComplement = 0x1p-25;
  double sum = 0;
  for (int64_t row = 0; row < column.classes; ++row) {
    const double output = column.at(row);
    sum -= std::log(row == label ? std::max(output, kLeast)
                                 : std::max(1.0 - output, kLeastComplement));
    if (delta != nullptr) {
      delta[row * column.stride] = scale * (column.at(row) - (row == label ? 1.0F : 0.0F));
    }
  }
  return sum;
}

double SquaredError(const Column& column, int32_t label, float scale, float* delta) {
  double sum = 0;
  for (int64_t row = 0; row < column.classes; ++row) {
    const float error = column.at(row) - (row == label ? 1.0F : 0.0F);
    sum += 0.5 * error * error;
    if (delta != nullptr) delta[row * column.stride] = scale * error;
  }
  return sum;
}

// Of logits: row by row, since classes may be many.
BatchResult CrossEntropyOfLogits(const float* logits, const int32_t* labels, int64_t classes,
                                 int64_t stride, int64_t size, float* delta) {
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

BatchResult ComputeLoss(Loss loss, Activation activation, const float* output,
                        const int32_t* labels, int64_t classes, int64_t stride, int64_t width,
                        int64_t size, float* delta) {
  const bool logits = loss == Loss::kCrossEntropy && activation != Activation::kSoftmax;
  BatchResult result;
  if (logits) result = CrossEntropyOfLogits(output, labels, classes, stride, size, delta);
  const float scale = 1.0F / static_cast<float>(size);
  for (int64_t b = 0; !logits && b < size; ++b) {
    const Column column = {output + b, stride, classes};
    float* column_delta = delta == nullptr ? nullptr : delta + b;
    if (loss == Loss::kMeanSquaredError) {
      result.loss_sum += SquaredError(column, labels[b], scale, column_delta);
    } else if (loss == Loss::kBinaryCrossEntropy) {
      result.loss_sum += BinaryCrossEntropy(column, labels[b], scale, column_delta);
    } else {
      result.loss_sum += CrossEntropyOfProbabilities(column, labels[b], scale, column_delta);
    }
    result.correct += column.ArgMax() == labels[b] ? 1 : 0;
  }
  for (int64_t row = 0; delta != nullptr && row < classes; ++row) {
    std::fill(delta + row * stride + size, delta + row * stride + width, 0.0F);
  }
  return result;
}

}  // namespace espalier::worker::engine
