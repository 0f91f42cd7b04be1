// Two steps of every rule against the formulas of OptimizerSpec worked in double.
#include "worker/engine/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "common/base/status.h"

namespace espalier::worker::engine {
namespace {

constexpr double kRate = 0.1;
constexpr double kFirst = 0.5;  // gradients of the two steps
constexpr double kSecond = -0.25;
constexpr double kStart = 2.0;

float TwoSteps(const OptimizerSpec& spec) {
  Optimizer optimizer(spec, 1);
  float w = kStart;
  for (const double g : {kFirst, kSecond}) {
    optimizer.BeginStep(kRate);
    const float gradient[] = {static_cast<float>(g)};
    optimizer.Update(gradient, 0, &w);
  }
  return w;
}

TEST(OptimizerTest, PlainSgd) {
  EXPECT_NEAR(TwoSteps({}), kStart - kRate * (kFirst + kSecond), 1e-6);
}

TEST(OptimizerTest, PlainSgdWithCoupledAndDecoupledDecay) {
  const double coupled1 = kStart - kRate * (kFirst + 0.01 * kStart);
  EXPECT_NEAR(TwoSteps({.weight_decay = 0.01}), coupled1 - kRate * (kSecond + 0.01 * coupled1),
              1e-6);
  const double decoupled1 = kStart - kRate * kFirst - 0.01 * kStart;
  EXPECT_NEAR(TwoSteps({.weight_decay = 0.01, .decoupled_weight_decay = true}),
              decoupled1 - kRate * kSecond - 0.01 * decoupled1, 1e-6);
}

TEST(OptimizerTest, CoupledMomentumFollowsPyTorch) {
  for (const bool nesterov : {false, true}) {
    double w = kStart;
    double v = 0;
    for (const double g : {kFirst, kSecond}) {
      const double total = g + 0.01 * w;
      v = 0.9 * v + total;
      w -= kRate * (nesterov ? total + 0.9 * v : v);
    }
    EXPECT_NEAR(TwoSteps({.momentum = 0.9, .nesterov = nesterov, .weight_decay = 0.01}), w, 1e-6);
  }
}

TEST(OptimizerTest, DecoupledMomentumFollowsTheSetAuthors) {
  for (const bool nesterov : {false, true}) {
    double w = kStart;
    double v = 0;
    for (const double g : {kFirst, kSecond}) {
      v = 0.9 * v - kRate * g;
      w += (nesterov ? 0.9 * v - kRate * g : v) - 2e-4 * w;
    }
    EXPECT_NEAR(TwoSteps({.momentum = 0.9,
                          .nesterov = nesterov,
                          .weight_decay = 2e-4,
                          .decoupled_weight_decay = true}),
                w, 1e-6);
  }
}

TEST(OptimizerTest, AdamWithCoupledAndDecoupledDecay) {
  for (const bool decoupled : {false, true}) {
    double w = kStart;
    double m = 0;
    double v = 0;
    int t = 0;
    for (double g : {kFirst, kSecond}) {
      ++t;
      if (decoupled) w -= kRate * 0.01 * w;
      if (!decoupled) g += 0.01 * w;
      m = 0.9 * m + 0.1 * g;
      v = 0.999 * v + 0.001 * g * g;
      w -= kRate * (m / (1 - std::pow(0.9, t))) / (std::sqrt(v / (1 - std::pow(0.999, t))) + 1e-8);
    }
    EXPECT_NEAR(TwoSteps({.kind = OptimizerSpec::Kind::kAdam,
                          .weight_decay = 0.01,
                          .decoupled_weight_decay = decoupled}),
                w, 1e-5);
  }
}

TEST(OptimizerTest, ResetForgetsMomentum) {
  Optimizer optimizer({.momentum = 0.9}, 1);
  float w = 0;
  const float gradient[] = {1.0F};
  optimizer.BeginStep(kRate);
  optimizer.Update(gradient, 0, &w);
  const float first_step = w;
  optimizer.Reset();
  w = 0;
  optimizer.BeginStep(kRate);
  optimizer.Update(gradient, 0, &w);
  EXPECT_EQ(w, first_step);
}

TEST(OptimizerTest, ResumedFromItsStateItGoesOnWithTheSameBits) {
  for (const OptimizerSpec& spec :
       {OptimizerSpec{.momentum = 0.9}, OptimizerSpec{.kind = OptimizerSpec::Kind::kAdam}}) {
    const float gradient[] = {1.0F, -0.3F};
    float whole[] = {0.5F, 0.25F};
    float parts[] = {0.5F, 0.25F};
    Optimizer without_break(spec, 2);
    Optimizer before(spec, 2);
    Optimizer after(spec, 2);
    for (int step = 0; step < 4; ++step) {
      without_break.BeginStep(kRate);
      without_break.Update(gradient, 0, whole);
      if (step == 2) {
        ASSERT_TRUE(after.Resume(before.state(), 2).ok());
      }
      Optimizer& optimizer = step < 2 ? before : after;
      optimizer.BeginStep(kRate);
      optimizer.Update(gradient, 0, parts);
    }
    EXPECT_EQ(parts[0], whole[0]);
    EXPECT_EQ(parts[1], whole[1]);
    EXPECT_EQ(base::ReasonOf(after.Resume(std::vector<float>(3), 1)), "SHAPE_MISMATCH");
  }
}

// FedProx and SCAFFOLD: the gradient of ½·mu·(w − reference)², and the correction, are added.
TEST(OptimizerTest, TermsAreAddedToTheGradientOfEveryRule) {
  const std::vector<float> reference = {1.5F};
  const std::vector<float> correction = {-0.125F};
  for (const OptimizerSpec& spec :
       {OptimizerSpec{}, OptimizerSpec{.momentum = 0.5, .weight_decay = 0.25},
        OptimizerSpec{.weight_decay = 0.25, .decoupled_weight_decay = true},
        OptimizerSpec{.kind = OptimizerSpec::Kind::kAdam}}) {
    Optimizer with(spec, 1);
    Optimizer plain(spec, 1);
    ASSERT_TRUE(
        with.SetTerms({.proximal_mu = 0.5, .reference = reference, .correction = correction}).ok());
    float w = kStart;
    float expected = kStart;
    for (const float g : {0.5F, -0.25F}) {
      const float whole[] = {g + 0.5F * (expected - 1.5F) - 0.125F};
      const float gradient[] = {g};
      with.BeginStep(kRate);
      with.Update(gradient, 0, &w);
      plain.BeginStep(kRate);
      plain.Update(whole, 0, &expected);
      EXPECT_FLOAT_EQ(w, expected);
    }
  }
}

TEST(OptimizerTest, TermsOfLongRangesAreTakenAtTheirPlaces) {
  constexpr int64_t kSize = 3000;
  std::vector<float> reference(kSize);
  std::vector<float> correction(kSize);
  std::vector<float> values(kSize);
  for (int64_t i = 0; i < kSize; ++i) {
    reference[i] = static_cast<float>(i);
    correction[i] = static_cast<float>(2 * i);
    values[i] = static_cast<float>(3 * i);
  }
  Optimizer optimizer({}, kSize);
  ASSERT_TRUE(
      optimizer.SetTerms({.proximal_mu = 1, .reference = reference, .correction = correction})
          .ok());
  optimizer.BeginStep(0.25);
  const std::vector<float> gradient(kSize - 100, 0.0F);
  optimizer.Update(gradient, 100, values.data());
  for (int64_t i = 0; i < kSize; ++i) {
    ASSERT_EQ(values[i], static_cast<float>(i < 100 ? 3 * i : 2 * i)) << i;
  }
}

TEST(OptimizerTest, TermsOfNothingChangeNoBitAndResetForgetsThem) {
  const std::vector<float> reference = {-7};
  Optimizer optimizer({.momentum = 0.9}, 1);
  Optimizer plain({.momentum = 0.9}, 1);
  ASSERT_TRUE(optimizer.SetTerms({.proximal_mu = 3, .reference = reference}).ok());
  optimizer.Reset();
  ASSERT_TRUE(optimizer.SetTerms({.proximal_mu = 0, .reference = reference}).ok());
  float w = 0.3F;
  float expected = 0.3F;
  const float gradient[] = {1.0F / 3};
  for (Optimizer* one : {&optimizer, &plain}) {
    one->BeginStep(kRate);
    one->Update(gradient, 0, one == &plain ? &expected : &w);
  }
  EXPECT_EQ(w, expected);
}

TEST(OptimizerTest, TermsThatDoNotFitAreRefused) {
  const std::vector<float> three(3);
  Optimizer optimizer({}, 2);
  EXPECT_EQ(base::ReasonOf(optimizer.SetTerms({.correction = three})), "SHAPE_MISMATCH");
  EXPECT_EQ(base::ReasonOf(optimizer.SetTerms({.proximal_mu = 1})), "SHAPE_MISMATCH");
  EXPECT_EQ(base::ReasonOf(optimizer.SetTerms({.proximal_mu = -1})), "OPTIMIZER_PARAMETER");
}

TEST(OptimizerTest, ParametersOutOfRangeAreRefusedByName) {
  for (const auto& [spec, name] : {
           std::pair<OptimizerSpec, const char*>{{.momentum = 1.0}, "momentum"},
           {{.weight_decay = -1}, "weight_decay"},
           {{.weight_decay = NAN}, "weight_decay"},
           {{.beta1 = 1.0}, "beta1"},
           {{.beta2 = -0.5}, "beta2"},
           {{.epsilon = 0}, "epsilon"},
       }) {
    const absl::Status status = ValidateOptimizer(spec);
    EXPECT_EQ(base::ReasonOf(status), "OPTIMIZER_PARAMETER");
    EXPECT_NE(base::MessageOf(status).find(name), std::string::npos) << status;
  }
}

}  // namespace
}  // namespace espalier::worker::engine
