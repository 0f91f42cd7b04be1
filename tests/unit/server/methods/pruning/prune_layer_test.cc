#include "server/methods/pruning/prune_layer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "common/base/rng.h"
#include "common/base/status.h"

namespace espalier::server::methods {
namespace {

constexpr int64_t kRows = 24;
constexpr int64_t kColumns = 32;

// Inputs whose mean differs from zero, so that there is an expected output to keep.
sparsity::ActivationStatistics Statistics() {
  constexpr int64_t kTokens = 64;
  base::Rng rng(base::StreamKey(2, "inputs", {}));
  sparsity::ActivationStatistics statistics(kColumns, true);
  for (int sequence = 0; sequence < 8; ++sequence) {
    std::vector<float> x(kColumns * kTokens);
    for (int64_t j = 0; j < kColumns; ++j) {
      for (int64_t t = 0; t < kTokens; ++t) {
        x[j * kTokens + t] =
            static_cast<float>((1 + static_cast<double>(j % 4)) * (rng.Normal() + .8));
      }
    }
    EXPECT_TRUE(statistics.AddSequence(x.data(), kTokens, kTokens).ok());
  }
  return statistics;
}

std::vector<float> Weights() {
  base::Rng rng(base::StreamKey(2, "weights", {}));
  std::vector<float> weights(kRows * kColumns);
  for (float& weight : weights) weight = static_cast<float>(rng.Normal());
  return weights;
}

PrunedLayer Prune(const PruningSettings& settings) {
  const std::vector<float> weights = Weights();
  auto pruned = PruneLayer({weights, kRows, kColumns}, Statistics(), settings, true, 2);
  EXPECT_TRUE(pruned.ok()) << pruned.status();
  return *std::move(pruned);
}

TEST(PruneLayerTest, CriteriaOrderAsTheyShould) {
  PruningSettings settings;
  settings.pattern.sparsity = .6;
  settings.layer_errors = true;
  settings.criterion = PruningCriterion::kMagnitude;
  const double magnitude = Prune(settings).error->output;
  settings.criterion = PruningCriterion::kWanda;
  const double wanda = Prune(settings).error->output;
  settings.criterion = PruningCriterion::kSparseGpt;
  const double sparsegpt = Prune(settings).error->output;
  EXPECT_LT(sparsegpt, wanda);
  EXPECT_LT(wanda, magnitude);
}

TEST(PruneLayerTest, DsnotLowersTheErrorOfMagnitudeAndOfWanda) {
  for (const auto criterion : {PruningCriterion::kMagnitude, PruningCriterion::kWanda}) {
    PruningSettings settings;
    settings.pattern.sparsity = .7;
    settings.layer_errors = true;
    settings.criterion = criterion;
    settings.refine = true;
    settings.dsnot.max_cycles = 50;
    settings.dsnot.sign_check = true;
    const PrunedLayer layer = Prune(settings);
    EXPECT_GT(layer.exchanged, 0);
    EXPECT_LT(layer.error->output, layer.initial_error->output);
    EXPECT_LT(layer.error->expected, layer.initial_error->expected);
    EXPECT_LE(layer.initial_error->expected, layer.initial_error->output);
    // Of each row's 32 weights 70 % go, whichever criterion the mask begins with.
    for (int64_t i = 0; i < kRows; ++i) {
      const auto row = layer.mask.row(i);
      EXPECT_EQ(std::count(row.begin(), row.end(), uint8_t{1}), kColumns - 22);
    }
  }
}

TEST(PruneLayerTest, MagnitudeAloneTakesTheSmallestOfTheWholeLayer) {
  PruningSettings settings;
  settings.pattern.sparsity = .7;
  settings.criterion = PruningCriterion::kMagnitude;
  const PrunedLayer layer = Prune(settings);
  EXPECT_EQ(layer.mask.KeptCount(), 768 - 537);
  const auto first = layer.mask.row(0);
  EXPECT_NE(std::count(first.begin(), first.end(), uint8_t{1}), kColumns - 22);
}

TEST(PruneLayerTest, CumulativeWandaPrunesTheAskedShareUnevenly) {
  PruningSettings settings;
  settings.pattern.sparsity = .5;
  settings.criterion = PruningCriterion::kWanda;
  settings.cumulative = true;
  const PrunedLayer layer = Prune(settings);
  EXPECT_NEAR(static_cast<double>(layer.mask.KeptCount()) / (kRows * kColumns), .5, .005);
  std::set<int64_t> kept;
  for (int64_t i = 0; i < kRows; ++i) {
    const auto row = layer.mask.row(i);
    kept.insert(std::count(row.begin(), row.end(), uint8_t{1}));
  }
  EXPECT_GT(kept.size(), 1u);
}

TEST(PruneLayerTest, NoCalibrationExamplesIsAnError) {
  const std::vector<float> weights = Weights();
  const auto pruned = PruneLayer({weights, kRows, kColumns},
                                 sparsity::ActivationStatistics(kColumns, true), {}, true, 1);
  EXPECT_EQ(base::ReasonOf(pruned.status()), "NO_CALIBRATION_DATA");
}

}  // namespace
}  // namespace espalier::server::methods
