// Losses: their values against their formulas, and their gradients against finite differences.
#include "worker/engine/loss.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <ostream>
#include <string>
#include <vector>

#include "tests/unit/worker/engine/fixtures.h"

namespace espalier::worker::engine {
namespace {

TEST(SoftmaxOfColumnsTest, SumsExponentialsBelowTheLargestLogit) {
  constexpr int64_t kClasses = 50;
  constexpr int64_t kStride = 48;
  constexpr int64_t kSize = 33;
  // Exponentials of these would overflow.
  const auto logits = RandomFloats(kClasses * kStride, 1, 300);
  std::vector<float> exponentials(logits.size(), -1);
  const ColumnSoftmax with =
      SoftmaxOfColumns(logits.data(), kClasses, kStride, kSize, exponentials.data());
  const ColumnSoftmax without = SoftmaxOfColumns(logits.data(), kClasses, kStride, kSize, nullptr);
  EXPECT_EQ(with.sum, without.sum);
  ASSERT_EQ(with.top.size(), kSize);
  for (int64_t b = 0; b < kSize; ++b) {
    double sum = 0;
    for (int64_t c = 0; c < kClasses; ++c) {
      ASSERT_LE(logits[c * kStride + b], with.top[b]);
      const double expected = std::exp(static_cast<double>(logits[c * kStride + b]) - with.top[b]);
      ASSERT_NEAR(exponentials[c * kStride + b], expected, 1e-6);
      sum += expected;
    }
    EXPECT_EQ(logits[with.best[b] * kStride + b], with.top[b]);
    EXPECT_NEAR(with.sum[b], sum, 1e-5);
  }
  EXPECT_EQ(exponentials[kSize], -1);
}

TEST(SoftmaxOfColumnsTest, TheLowestRowWinsTies) {
  std::vector<float> logits(3 * 16, 2.0F);
  EXPECT_THAT(SoftmaxOfColumns(logits.data(), 3, 16, 2, nullptr).best,
              ::testing::ElementsAre(0, 0));
}

constexpr int64_t kOutputs = 4;
constexpr int64_t kExamples = 3;
constexpr int64_t kStride = 16;
constexpr int32_t kLabels[] = {2, 0, 3};

struct LossCase {
  std::string name;
  Loss loss;
  Activation activation;
  LossOptions options = {};
  bool targets = false;

  friend void PrintTo(const LossCase& of, std::ostream* out) { *out << of.name; }
};

class ComputeLossTest : public testing::TestWithParam<LossCase> {
 protected:
  ComputeLossTest() : targets_(kOutputs * kStride), inputs_(RandomFloats(kOutputs * kStride, 3)) {
    const bool labels = GetParam().loss == Loss::kBinaryCrossEntropy;
    for (int64_t i = 0; i < kOutputs * kStride; ++i) {
      // Far from the inputs, where the absolute error has no slope.
      targets_[i] = labels ? static_cast<float>(i % 3 == 0) : i % 2 == 0 ? -1.3F : 1.2F;
    }
  }

  Batch TheBatch() const {
    return {nullptr, kLabels, kExamples, kStride, GetParam().targets ? targets_.data() : nullptr};
  }

  // What the network's last activation makes of inputs.
  std::vector<float> Outputs(const std::vector<float>& inputs) const {
    std::vector<float> outputs = inputs;
    if (GetParam().activation == Activation::kSigmoid) {
      for (float& value : outputs) value = 1 / (1 + std::exp(-value));
    }
    if (GetParam().activation != Activation::kSoftmax) return outputs;
    for (int64_t b = 0; b < kExamples; ++b) {
      double sum = 0;
      for (int64_t o = 0; o < kOutputs; ++o) sum += std::exp(inputs[o * kStride + b]);
      for (int64_t o = 0; o < kOutputs; ++o) {
        outputs[o * kStride + b] = static_cast<float>(std::exp(inputs[o * kStride + b]) / sum);
      }
    }
    return outputs;
  }

  BatchResult Compute(const std::vector<float>& inputs, std::vector<float>* delta) const {
    return ComputeLoss({GetParam().loss, GetParam().activation, GetParam().options},
                       Outputs(inputs).data(), TheBatch(), kOutputs, kStride,
                       delta == nullptr ? nullptr : delta->data());
  }

  // The loss of one example by the formulas of spec.h.
  double Formula(int64_t b) const {
    const LossCase& of = GetParam();
    const std::vector<float> outputs = Outputs(inputs_);
    double total = 0;
    for (int64_t o = 0; o < kOutputs; ++o) total += std::exp(double{inputs_[o * kStride + b]});
    double loss = 0;
    for (int64_t o = 0; o < kOutputs; ++o) {
      const double output = outputs[o * kStride + b];
      const double smooth = of.options.label_smoothing;
      double target = o == kLabels[b] ? 1 : 0;
      if (of.targets) target = targets_[o * kStride + b];
      const double error = std::abs(output - target);
      const double delta = of.options.huber_delta;
      switch (of.loss) {
        case Loss::kCrossEntropy:
          target = (1 - smooth) * target + smooth / kOutputs;
          loss -= target * (inputs_[o * kStride + b] - std::log(total));
          break;
        case Loss::kBinaryCrossEntropy:
          loss -= target == 1 ? std::log(output) : std::log(1 - output);
          break;
        case Loss::kMeanSquaredError:
          loss += 0.5 * error * error;
          break;
        case Loss::kMeanAbsoluteError:
          loss += error;
          break;
        case Loss::kHuber:
          loss += error <= delta ? 0.5 * error * error : delta * (error - 0.5 * delta);
      }
    }
    const auto& weights = of.options.class_weights;
    return loss * (weights.empty() ? 1 : weights[kLabels[b]]);
  }

  std::vector<float> targets_;
  std::vector<float> inputs_;
};

TEST_P(ComputeLossTest, IsWhatItsFormulaSays) {
  std::vector<float> delta(kOutputs * kStride);
  double expected = 0;
  for (int64_t b = 0; b < kExamples; ++b) expected += Formula(b);
  EXPECT_NEAR(Compute(inputs_, &delta).loss_sum, expected, 1e-5);
}

TEST_P(ComputeLossTest, GradientsAreThoseOfTheMeanLoss) {
  std::vector<float> delta(kOutputs * kStride, 9);
  Compute(inputs_, &delta);
  constexpr float kStep = 1e-2F;
  std::vector<float> unused(kOutputs * kStride);
  for (int64_t o = 0; o < kOutputs; ++o) {
    for (int64_t b = 0; b < kExamples; ++b) {
      std::vector<float> up = inputs_;
      std::vector<float> down = inputs_;
      up[o * kStride + b] += kStep;
      down[o * kStride + b] -= kStep;
      const double slope = (Compute(up, &unused).loss_sum - Compute(down, &unused).loss_sum) /
                           (2.0 * kStep * kExamples);
      EXPECT_NEAR(delta[o * kStride + b], slope, 2e-3) << o << " " << b;
    }
    EXPECT_EQ(delta[o * kStride + kExamples], 0) << "columns without an example";
  }
}

// Evaluation has neither weights nor smoothing.
TEST_P(ComputeLossTest, OptionsOfTrainingDoNotChangeEvaluation) {
  if (GetParam().loss != Loss::kCrossEntropy) return;
  const LossOptions none;
  const double plain = ComputeLoss({Loss::kCrossEntropy, GetParam().activation, none},
                                   Outputs(inputs_).data(), TheBatch(), kOutputs, kStride, nullptr)
                           .loss_sum;
  EXPECT_EQ(Compute(inputs_, nullptr).loss_sum, plain);
}

INSTANTIATE_TEST_SUITE_P(
    Losses, ComputeLossTest,
    testing::Values(
        LossCase{"CrossEntropy", Loss::kCrossEntropy, Activation::kLinear},
        LossCase{"CrossEntropyOfSoftmax", Loss::kCrossEntropy, Activation::kSoftmax},
        LossCase{"Smoothed", Loss::kCrossEntropy, Activation::kLinear, {.label_smoothing = 0.2}},
        LossCase{
            "SmoothedSoftmax", Loss::kCrossEntropy, Activation::kSoftmax, {.label_smoothing = 0.2}},
        LossCase{"Weighted",
                 Loss::kCrossEntropy,
                 Activation::kLinear,
                 {.class_weights = {0.5, 1, 2, 3}, .label_smoothing = 0.1}},
        LossCase{"WeightedSoftmax",
                 Loss::kCrossEntropy,
                 Activation::kSoftmax,
                 {.class_weights = {0.5, 1, 2, 3}, .label_smoothing = 0.1}},
        LossCase{"BinaryOfClass", Loss::kBinaryCrossEntropy, Activation::kSigmoid},
        LossCase{"BinaryOfLabels", Loss::kBinaryCrossEntropy, Activation::kSigmoid, {}, true},
        LossCase{"SquaredOfClass", Loss::kMeanSquaredError, Activation::kLinear},
        LossCase{"Squared", Loss::kMeanSquaredError, Activation::kLinear, {}, true},
        LossCase{"Absolute", Loss::kMeanAbsoluteError, Activation::kLinear, {}, true},
        LossCase{"Huber", Loss::kHuber, Activation::kLinear, {.huber_delta = 0.4}, true}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace espalier::worker::engine
