// Losses and gradients of all recommenders against the reference in double.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/worker/recommender/fixtures.h"
#include "tests/unit/worker/recommender/reference_models.h"

namespace espalier::worker::recommender {
namespace {

struct Case {
  const char* name;
  const char* kind;
  double density;
};

class GradientsTest : public ::testing::TestWithParam<Case> {
 protected:
  v1::RecommenderSpec spec_ = SmallSpec(GetParam().kind);
  std::shared_ptr<const Interactions> train_ = SmallInteractions();
  std::shared_ptr<const tensor::ModelTopology> topology_ = MakeTopology(spec_, GetParam().density);
  std::unique_ptr<RecommenderModel> model_ = MakeModel(spec_, topology_, train_);
  // Neither the first step nor the first of an epoch, and with a part of the annealing.
  Step step_ = {.index = 3, .batch_size = 13, .learning_rate = 0.01, .seed = 17};
};

TEST_P(GradientsTest, AgreeWithFiniteDifferencesOfTheReference) {
  std::vector<float> gradients(model_->values().size());
  const StepResult result = model_->Gradients(step_, gradients);
  Tensors tensors = DenseTensors(*topology_, model_->values());
  const auto loss = [&] {
    return ReferenceLoss(spec_, *train_, step_, tensors, SmallFields(spec_));
  };
  EXPECT_NEAR(result.loss, loss(), 1e-4 * std::abs(loss()));
  for (size_t t = 0; t < topology_->num_tensors(); ++t) {
    std::vector<int64_t> positions;
    if (topology_->is_sparse(t)) positions = topology_->topology(t).Positions();
    // Up to 120 values of each tensor.
    const int64_t distance = std::max<int64_t>(1, topology_->stored(t) / 120);
    for (int64_t k = 0; k < topology_->stored(t); k += distance) {
      double& value = tensors[t][positions.empty() ? k : positions[k]];
      const double before = value;
      constexpr double kStep = 1e-5;
      value = before + kStep;
      const double above = loss();
      value = before - kStep;
      const double below = loss();
      value = before;
      const double expected = (above - below) / (2 * kStep);
      EXPECT_NEAR(gradients[topology_->offset(t) + k], expected, 2e-5 + 2e-3 * std::abs(expected))
          << topology_->layout()[t].name << " value " << k;
    }
  }
}

// With a density below 1.
class GrowthTest : public GradientsTest {};

TEST_P(GrowthTest, CandidatesAreTheLargestGradientsOfTheDenseModel) {
  const auto dense_topology = MakeTopology(spec_, 1);
  const auto dense = MakeModel(spec_, dense_topology, train_);
  std::vector<float> expanded;
  for (const auto& tensor : DenseTensors(*topology_, model_->values())) {
    expanded.insert(expanded.end(), tensor.begin(), tensor.end());
  }
  ASSERT_TRUE(dense->SetValues(expanded).ok());
  std::vector<float> gradients(expanded.size());
  dense->Gradients(step_, gradients);
  const std::vector<int64_t> counts(topology_->num_tensors(), 9);
  const auto candidates = model_->GrowthCandidates(std::span(&step_, 1), counts);
  for (size_t t = 0; t < topology_->num_tensors(); ++t) {
    if (!topology_->is_sparse(t)) {
      EXPECT_TRUE(candidates[t].positions.empty());
      continue;
    }
    const auto of_tensor =
        std::span(gradients).subspan(dense_topology->offset(t), dense_topology->stored(t));
    std::vector<float> inactive(of_tensor.begin(), of_tensor.end());
    for (const int64_t position : topology_->topology(t).Positions()) inactive[position] = 0;
    std::vector<float> sizes;
    for (const float g : inactive) sizes.push_back(std::abs(g));
    std::ranges::sort(sizes, std::greater<>());
    ASSERT_EQ(candidates[t].positions.size(), 9u);
    for (size_t k = 0; k < 9; ++k) {
      const float value = candidates[t].values[k];
      EXPECT_NEAR(value, inactive[candidates[t].positions[k]], 1e-6 + 1e-4 * std::abs(value));
      EXPECT_GE(std::abs(value), sizes[8] * 0.999F);
    }
  }
}

TEST_P(GrowthTest, GradientsOfSeveralStepsAddUpByMagnitude) {
  Step other = step_;
  other.index = 4;
  const std::vector<int64_t> all(topology_->num_tensors(), kUsers * kItems * 10);
  const auto first = model_->GrowthCandidates(std::span(&step_, 1), all);
  const auto second = model_->GrowthCandidates(std::span(&other, 1), all);
  const std::vector<Step> steps = {step_, other};
  const auto both = model_->GrowthCandidates(steps, all);
  for (size_t t = 0; t < topology_->num_tensors(); ++t) {
    std::map<int64_t, float> sums;
    for (const auto* one : {&first[t], &second[t]}) {
      for (size_t k = 0; k < one->positions.size(); ++k) {
        sums[one->positions[k]] += std::abs(one->values[k]);
      }
    }
    ASSERT_EQ(both[t].positions.size(), sums.size());
    for (size_t k = 0; k < both[t].positions.size(); ++k) {
      EXPECT_FLOAT_EQ(both[t].values[k], sums[both[t].positions[k]]);
    }
  }
}

TEST_P(GrowthTest, GradientsOfStoredValuesComeWithTheCandidates) {
  Step other = step_;
  other.index = 4;
  const std::vector<Step> steps = {step_, other};
  const size_t values = model_->values().size();
  std::vector<float> first(values);
  std::vector<float> second(values);
  model_->Gradients(step_, first);
  model_->Gradients(other, second);
  // With and without candidates of some tensors.
  for (const int64_t count : {9, 0}) {
    std::vector<int64_t> counts(topology_->num_tensors(), count);
    counts.front() = 0;
    const auto alone = model_->GrowthCandidates(steps, counts);
    std::vector<float> active(values, 1);
    model_->GrowthCandidates(std::span(&step_, 1), counts, active);
    EXPECT_EQ(active, first);
    const auto candidates = model_->GrowthCandidates(steps, counts, active);
    for (size_t i = 0; i < values; ++i) {
      ASSERT_EQ(active[i], std::abs(first[i]) + std::abs(second[i])) << i;
    }
    for (size_t t = 0; t < candidates.size(); ++t) {
      EXPECT_EQ(candidates[t].positions, alone[t].positions);
      EXPECT_EQ(candidates[t].values, alone[t].values);
    }
  }
}

constexpr char kNeuMf[] = "neumf { dimensions: 5 hidden: 7 hidden: 4 dropout: 0 negatives: 3 }";
constexpr char kMultVae[] = "multvae { hidden: 9 latent: 4 anneal_steps: 10 }";

constexpr char kAutoInt[] = R"(autoint {
  dimensions: 5 layers: 2 heads: 2 units: 6 dropout: 0 negatives: 3
  fields { values: 8 of_items: true } fields { values: 9 } })";

const Case kSparse[] = {{"LightGcn", "lightgcn { dimensions: 10 l2: 0.3 }", 0.3},
                        {"OneLayer", "lightgcn { dimensions: 20 layers: 1 }", 0.5},
                        {"NoLayers", "lightgcn { dimensions: 3 layers: 0 l2: 1 }", 0.5},
                        {"FourLayers", "lightgcn { dimensions: 18 layers: 4 l2: 0.1 }", 0.4},
                        {"NeuMf", kNeuMf, 0.4},
                        {"MultVae", kMultVae, 0.4},
                        {"AutoInt", kAutoInt, 0.4}};
const Case kDense[] = {{"DenseLightGcn", "lightgcn { dimensions: 16 l2: 0 layers: 2 }", 1},
                       {"DenseNeuMf", kNeuMf, 1},
                       {"DenseMultVae", kMultVae, 1},
                       {"DenseAutoInt", kAutoInt, 1}};

std::string NameOf(const ::testing::TestParamInfo<Case>& info) { return info.param.name; }

INSTANTIATE_TEST_SUITE_P(Sparse, GradientsTest, ::testing::ValuesIn(kSparse), NameOf);
INSTANTIATE_TEST_SUITE_P(Dense, GradientsTest, ::testing::ValuesIn(kDense), NameOf);
INSTANTIATE_TEST_SUITE_P(Sparse, GrowthTest, ::testing::ValuesIn(kSparse), NameOf);

TEST(NeuMfDropoutTest, DropsInputsOfThePerceptronWhileTrainingOnly) {
  const auto train = SmallInteractions();
  const std::string text = "neumf { dimensions: 5 hidden: 7 dropout: ";
  const auto with = SmallSpec(text + "0.5 }");
  const auto without = SmallSpec(text + "0 }");
  const auto topology = MakeTopology(with, 0.5);
  const Step step = {.index = 0, .batch_size = 20, .learning_rate = 0, .seed = 1};
  std::vector<float> gradients(topology->total_stored());
  const auto dropping = MakeModel(with, topology, train);
  const auto keeping = MakeModel(without, topology, train);
  EXPECT_NE(dropping->Gradients(step, gradients).loss, keeping->Gradients(step, gradients).loss);
  const int32_t user = 4;
  float a = 0;
  float b = 0;
  dropping->MakeScorer(*train)->Score(std::span(&user, 1), 7, 1, &a);
  keeping->MakeScorer(*train)->Score(std::span(&user, 1), 7, 1, &b);
  EXPECT_EQ(a, b);
}

}  // namespace
}  // namespace espalier::worker::recommender
