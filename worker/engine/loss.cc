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

double CrossEntropyOfLogits(const Column& column, int32_t label, float scale, float* delta) {
  const float largest = column.at(column.ArgMax());
  double sum = 0;
  for (int64_t row = 0; row < column.classes; ++row) sum += std::exp(column.at(row) - largest);
  if (delta != nullptr) {
    const float inverse = static_cast<float>(1.0 / sum);
    for (int64_t row = 0; row < column.classes; ++row) {
      const float probability = std::exp(column.at(row) - largest) * inverse;
      delta[row * column.stride] = scale * (probability - (row == label ? 1.0F : 0.0F));
    }
  }
  return std::log(sum) + largest - column.at(label);
}

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

}  // namespace

BatchResult ComputeLoss(Loss loss, Activation activation, const float* output,
                        const int32_t* labels, int64_t classes, int64_t stride, int64_t width,
                        int64_t size, float* delta) {
  BatchResult result;
  const float scale = 1.0F / static_cast<float>(size);
  for (int64_t b = 0; b < size; ++b) {
    const Column column = {output + b, stride, classes};
    float* column_delta = delta == nullptr ? nullptr : delta + b;
    if (loss == Loss::kMeanSquaredError) {
      result.loss_sum += SquaredError(column, labels[b], scale, column_delta);
    } else if (loss == Loss::kBinaryCrossEntropy) {
      result.loss_sum += BinaryCrossEntropy(column, labels[b], scale, column_delta);
    } else if (activation == Activation::kSoftmax) {
      result.loss_sum += CrossEntropyOfProbabilities(column, labels[b], scale, column_delta);
    } else {
      result.loss_sum += CrossEntropyOfLogits(column, labels[b], scale, column_delta);
    }
    result.correct += column.ArgMax() == labels[b] ? 1 : 0;
  }
  for (int64_t row = 0; delta != nullptr && row < classes; ++row) {
    std::fill(delta + row * stride + size, delta + row * stride + width, 0.0F);
  }
  return result;
}

}  // namespace espalier::worker::engine
