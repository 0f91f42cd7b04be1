#include "worker/recommender/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "common/base/check.h"
#include "worker/engine/multiversion.h"

namespace espalier::worker::recommender {
namespace {

constexpr int kQueries = 0;
constexpr int kKeys = 1;
constexpr int kValues = 2;
constexpr int kResidual = 3;
constexpr int kParts = 4;

std::shared_ptr<const tensor::Topology> FullTopology(int64_t rows, int64_t cols) {
  auto full = tensor::Topology::Full(rows, cols);
  ESPALIER_CHECK(full.ok(), "a layer of checked size");
  return std::make_shared<const tensor::Topology>(*std::move(full));
}

// to += a ∘ b.
ESPALIER_MULTIVERSION
void AddProduct(const float* __restrict a, const float* __restrict b, int64_t size,
                float* __restrict to) {
  for (int64_t n = 0; n < size; ++n) to[n] += a[n] * b[n];
}

}  // namespace

AttentionLayer::AttentionLayer(const AttentionShape& shape, int threads)
    : shape_(shape),
      product_(FullTopology(kParts * shape.units, shape.inputs), shape.fields * shape.segment,
               threads, engine::DetectIsa()),
      transposed_(FullTopology(shape.inputs, kParts * shape.units), shape.fields * shape.segment,
                  threads, engine::DetectIsa()),
      projections_(kParts * shape.units * width()),
      projection_deltas_(kParts * shape.units * width()),
      alpha_(shape.heads * shape.fields * shape.fields * shape.segment),
      output_(shape.units * width()),
      delta_(shape.units * width()) {}

void AttentionLayer::Forward(const float* weight, const float* x, int64_t examples) {
  product_.Multiply(weight, x, width(), projections_.data());
  for (int64_t unit = 0; unit < shape_.units; ++unit) {
    std::copy_n(Projected(projections_, kResidual, unit, 0), width(),
                output_.data() + unit * width());
  }
  for (int64_t head = 0; head < shape_.heads; ++head) {
    for (int64_t field = 0; field < shape_.fields; ++field) Attend(head, field, examples);
  }
  for (float& value : output_.span()) value = std::max(value, 0.0F);
}

void AttentionLayer::Attend(int64_t head, int64_t field, int64_t examples) {
  const int64_t first = head * units_of_head();
  std::vector<float> top(examples, -std::numeric_limits<float>::infinity());
  std::vector<float> sum(examples);
  for (int64_t other = 0; other < shape_.fields; ++other) {
    float* alpha = Alpha(head, field, other);
    std::fill_n(alpha, examples, 0.0F);
    for (int64_t unit = first; unit < first + units_of_head(); ++unit) {
      AddProduct(Projected(projections_, kQueries, unit, field),
                 Projected(projections_, kKeys, unit, other), examples, alpha);
    }
    for (int64_t n = 0; n < examples; ++n) top[n] = std::max(top[n], alpha[n]);
  }
  for (int64_t other = 0; other < shape_.fields; ++other) {
    float* alpha = Alpha(head, field, other);
    for (int64_t n = 0; n < examples; ++n) {
      alpha[n] = std::exp(alpha[n] - top[n]);
      sum[n] += alpha[n];
    }
  }
  for (int64_t other = 0; other < shape_.fields; ++other) {
    float* alpha = Alpha(head, field, other);
    for (int64_t n = 0; n < examples; ++n) alpha[n] /= sum[n];
    for (int64_t unit = first; unit < first + units_of_head(); ++unit) {
      AddProduct(alpha, Projected(projections_, kValues, unit, other), examples,
                 output_.data() + unit * width() + field * shape_.segment);
    }
  }
}

void AttentionLayer::AttendBackward(int64_t head, int64_t field, int64_t examples) {
  const int64_t first = head * units_of_head();
  // Gradients of the attention weights of this field, then of what the softmax was taken of.
  scratch_.assign((shape_.fields + 1) * examples, 0.0F);
  float* inner = scratch_.data() + shape_.fields * examples;
  for (int64_t other = 0; other < shape_.fields; ++other) {
    const float* alpha = Alpha(head, field, other);
    float* of_alpha = scratch_.data() + other * examples;
    for (int64_t unit = first; unit < first + units_of_head(); ++unit) {
      const float* delta = Projected(projection_deltas_, kResidual, unit, field);
      AddProduct(delta, Projected(projections_, kValues, unit, other), examples, of_alpha);
      AddProduct(alpha, delta, examples, Projected(projection_deltas_, kValues, unit, other));
    }
    AddProduct(alpha, of_alpha, examples, inner);
  }
  for (int64_t other = 0; other < shape_.fields; ++other) {
    const float* alpha = Alpha(head, field, other);
    float* of_score = scratch_.data() + other * examples;
    for (int64_t n = 0; n < examples; ++n) of_score[n] = alpha[n] * (of_score[n] - inner[n]);
    for (int64_t unit = first; unit < first + units_of_head(); ++unit) {
      AddProduct(of_score, Projected(projections_, kKeys, unit, other), examples,
                 Projected(projection_deltas_, kQueries, unit, field));
      AddProduct(of_score, Projected(projections_, kQueries, unit, field), examples,
                 Projected(projection_deltas_, kKeys, unit, other));
    }
  }
}

void AttentionLayer::Backward(const float* weight, const float* x, int64_t examples,
                              float* gradient, float* dx) {
  for (int64_t i = 0; i < delta_.size(); ++i) {
    if (output_.data()[i] <= 0) delta_.data()[i] = 0;
  }
  // The residual's gradient is the output's, which the heads below read.
  std::ranges::fill(projection_deltas_.span(), 0.0F);
  std::copy_n(delta_.data(), delta_.size(), Projected(projection_deltas_, kResidual, 0, 0));
  for (int64_t head = 0; head < shape_.heads; ++head) {
    for (int64_t field = 0; field < shape_.fields; ++field) AttendBackward(head, field, examples);
  }
  const int64_t rows = kParts * shape_.units;
  std::vector<float> once(rows * shape_.inputs);
  product_.Gradient(projection_deltas_.data(), x, width(), once.data());
  for (size_t i = 0; i < once.size(); ++i) gradient[i] += once[i];
  std::vector<float> transposed(once.size());
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t i = 0; i < shape_.inputs; ++i) {
      transposed[i * rows + row] = weight[row * shape_.inputs + i];
    }
  }
  transposed_.Multiply(transposed.data(), projection_deltas_.data(), width(), dx);
}

}  // namespace espalier::worker::recommender
