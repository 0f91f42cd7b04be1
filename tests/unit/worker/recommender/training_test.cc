// What training does as a whole: it learns, it repeats, it resumes, it refuses what does not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/unit/worker/recommender/fixtures.h"
#include "worker/recommender/multvae.h"
#include "worker/recommender/ranking.h"

namespace espalier::worker::recommender {
namespace {

using ::testing::HasSubstr;

constexpr char kLightGcn[] = "lightgcn { dimensions: 16 }";
constexpr char kNeuMf[] = "neumf { dimensions: 8 }";
constexpr char kMultVae[] = "multvae { hidden: 40 latent: 10 anneal_steps: 1000 }";

constexpr char kAutoInt[] =
    "autoint { dimensions: 8 units: 16 fields { values: 7 of_items: true } }";

class TrainingTest : public ::testing::TestWithParam<const char*> {
 protected:
  std::unique_ptr<RecommenderModel> Make(int threads = 1, double density = 0.5) {
    return MakeModel(spec_, MakeTopology(spec_, density), train_, threads);
  }
  static Step StepAt(int64_t index) {
    return {.index = index, .batch_size = 32, .learning_rate = 0.01, .seed = 9};
  }

  v1::RecommenderSpec spec_ = SmallSpec(GetParam());
  std::shared_ptr<const Interactions> train_ = SmallInteractions();
};

std::vector<float> Copy(std::span<const float> values) { return {values.begin(), values.end()}; }

TEST_P(TrainingTest, LossFalls) {
  const auto model = Make();
  double first = 0;
  double last = 0;
  for (int64_t index = 0; index < 300; ++index) {
    const StepResult result = model->Train(StepAt(index));
    if (index < 20) first += result.loss;
    if (index >= 280) last += result.loss;
  }
  EXPECT_LT(last, 0.9 * first);
}

TEST_P(TrainingTest, BitsDoNotDependOnThreads) {
  const auto one = Make(1);
  const auto three = Make(3);
  for (int64_t index = 0; index < 12; ++index) {
    EXPECT_EQ(one->Train(StepAt(index)).loss, three->Train(StepAt(index)).loss);
  }
  EXPECT_EQ(Copy(one->values()), Copy(three->values()));
  EXPECT_EQ(one->optimizer_state(), three->optimizer_state());
  const std::vector<int64_t> counts(one->topology().num_tensors(), 5);
  const Step next = StepAt(12);
  const auto a = one->GrowthCandidates(std::span(&next, 1), counts);
  const auto b = three->GrowthCandidates(std::span(&next, 1), counts);
  for (size_t t = 0; t < a.size(); ++t) {
    EXPECT_EQ(a[t].positions, b[t].positions);
    EXPECT_EQ(a[t].values, b[t].values);
  }
}

TEST_P(TrainingTest, GoesOnFromStoredValuesAndState) {
  const auto straight = Make();
  const auto interrupted = Make();
  for (int64_t index = 0; index < 10; ++index) straight->Train(StepAt(index));
  for (int64_t index = 0; index < 6; ++index) interrupted->Train(StepAt(index));
  const auto resumed = Make();
  ASSERT_TRUE(resumed->SetValues(interrupted->values()).ok());
  ASSERT_TRUE(resumed->SetOptimizerState(interrupted->optimizer_state(), 6).ok());
  for (int64_t index = 6; index < 10; ++index) resumed->Train(StepAt(index));
  EXPECT_EQ(Copy(straight->values()), Copy(resumed->values()));
}

TEST_P(TrainingTest, GradientsAndCandidatesLeaveTheModelAlone) {
  const auto model = Make();
  const auto before = Copy(model->values());
  std::vector<float> gradients(before.size());
  const Step step = StepAt(3);
  model->Gradients(step, gradients);
  const std::vector<int64_t> counts(model->topology().num_tensors(), 5);
  model->GrowthCandidates(std::span(&step, 1), counts);
  EXPECT_EQ(Copy(model->values()), before);
  for (size_t t = 0; t < counts.size(); ++t) EXPECT_EQ(model->RowsWithSlots(t), 0);
}

TEST_P(TrainingTest, AScorerKeepsTheValuesOfItsTime) {
  const auto model = Make();
  const auto scorer = model->MakeScorer(*train_);
  const int32_t user = 5;
  std::vector<float> before(kItems);
  scorer->Score(std::span(&user, 1), 0, kItems, before.data());
  for (int64_t index = 0; index < 3; ++index) model->Train(StepAt(index));
  std::vector<float> after(kItems);
  const int32_t other = 6;
  scorer->Score(std::span(&other, 1), 0, kItems, after.data());
  scorer->Score(std::span(&user, 1), 0, kItems, after.data());
  EXPECT_EQ(before, after);
}

INSTANTIATE_TEST_SUITE_P(Models, TrainingTest,
                         ::testing::Values(kLightGcn, kNeuMf, kMultVae, kAutoInt),
                         [](const auto& info) { return "Case" + std::to_string(info.index); });

TEST(EpochTest, StepsLookAtEveryInteractionOrUserOnce) {
  const auto train = SmallInteractions();
  const auto steps = [&](const char* kind, int64_t batch) {
    const auto spec = SmallSpec(kind);
    return MakeModel(spec, MakeTopology(spec, 0.5), train)->StepsPerEpoch(batch);
  };
  EXPECT_EQ(steps(kLightGcn, train->size()), 1);
  EXPECT_EQ(steps(kNeuMf, 32), (train->size() + 31) / 32);
  EXPECT_EQ(steps(kMultVae, 10), 7);  // 69 users have items
}

// min(0.2, t / 1000): it grows as if it went on to 1, and stays at 0.2 from step 200 on.
TEST(AnnealingTest, DivergenceGrowsTowardsOneAndStopsAtItsLargestFactor) {
  const v1::MultVaeModel spec =
      SmallSpec("multvae { kl_weight: 0.2 anneal_steps: 1000 }").multvae();
  EXPECT_EQ(KlWeight(spec, {.index = 0}), 0);
  EXPECT_DOUBLE_EQ(KlWeight(spec, {.index = 50}), 0.05);
  EXPECT_DOUBLE_EQ(KlWeight(spec, {.index = 199}), 0.199);
  EXPECT_DOUBLE_EQ(KlWeight(spec, {.index = 200}), 0.2);
  EXPECT_DOUBLE_EQ(KlWeight(spec, {.index = 5000}), 0.2);
  // With the authors' settings the factor is full after 40,000 of their 200,000 steps.
  const v1::MultVaeModel defaults = SmallSpec("multvae {}").multvae();
  EXPECT_DOUBLE_EQ(KlWeight(defaults, {.index = 20'000}), 0.1);
  EXPECT_DOUBLE_EQ(KlWeight(defaults, {.index = 40'000}), 0.2);
  const v1::MultVaeModel at_once = SmallSpec("multvae { kl_weight: 2 anneal_steps: 0 }").multvae();
  EXPECT_EQ(KlWeight(at_once, {.index = 0}), 2);
}

TEST(PrivateUsersTest, AWorkerTrainsWithItsOwnRowsAfterTheSharedOnes) {
  const auto all = SmallInteractions();
  auto spec = SmallSpec("private_users: true lightgcn { dimensions: 4 }");
  // Ten of the users.
  std::vector<int64_t> offsets(all->offsets().begin() + 20, all->offsets().begin() + 31);
  const int64_t first = offsets[0];
  for (int64_t& offset : offsets) offset -= first;
  const auto mine = std::make_shared<const Interactions>(
      Interactions::Create(
          kItems, offsets,
          {all->columns().begin() + first, all->columns().begin() + first + offsets.back()})
          .value());
  auto layout = std::make_shared<tensor::ModelLayout>();
  const auto shared = wire::RecommenderTensors(spec).value();
  const auto own = wire::UserTensors(spec, 10).value();
  for (const auto* tensors : {&shared, &own}) {
    for (const auto& tensor : *tensors) layout->push_back(tensor.spec);
  }
  const auto topology = std::make_shared<const tensor::ModelTopology>(
      tensor::ModelTopology::Create(layout, {nullptr, nullptr}).value());
  const auto model = MakeModel(spec, topology, mine);
  EXPECT_TRUE(std::isfinite(
      model->Train({.index = 0, .batch_size = 8, .learning_rate = 0.1, .seed = 1}).loss));
}

TEST(CreateTest, RefusesWhatDoesNotFit) {
  const auto train = SmallInteractions();
  const auto spec = SmallSpec(kLightGcn);
  const auto topology = MakeTopology(spec, 0.5);
  const auto error = [&](const v1::RecommenderSpec& of, auto data) {
    return RecommenderModel::Create(of, AdamSpec(), topology, data, 8, 1).status();
  };
  auto other = spec;
  other.set_users(71);
  EXPECT_THAT(base::MessageOf(error(other, train)), HasSubstr("71 users and 90 items"));
  EXPECT_EQ(base::ReasonOf(error(SmallSpec("lightgcn { dimensions: 17 }"), train)),
            "SHAPE_MISMATCH");
  EXPECT_EQ(base::ReasonOf(error(SmallSpec(kNeuMf), train)), "SHAPE_MISMATCH");
  const auto fields = SmallSpec(kAutoInt);
  EXPECT_THAT(base::MessageOf(
                  RecommenderModel::Create(fields, AdamSpec(), MakeTopology(fields, 1), train, 8, 1)
                      .status()),
              HasSubstr("1 fields besides users and items, the data set 0"));
  EXPECT_THAT(base::MessageOf(RecommenderModel::Create(fields, AdamSpec(), MakeTopology(fields, 1),
                                                       train, 8, 1, {train})
                                  .status()),
              HasSubstr("field 0: expected 90 items with values below 7, found 70 and 90"));
  const auto nothing = std::make_shared<const Interactions>(
      Interactions::Create(kItems, std::vector<int64_t>(kUsers + 1), {}).value());
  EXPECT_EQ(base::ReasonOf(error(spec, nothing)), "NO_INTERACTIONS");
  const auto model = MakeModel(spec, topology, train);
  EXPECT_EQ(base::ReasonOf(model->SetValues({})), "SHAPE_MISMATCH");
  EXPECT_EQ(base::ReasonOf(model->SetOptimizerState({}, 1)), "SHAPE_MISMATCH");
}

}  // namespace
}  // namespace espalier::worker::recommender
