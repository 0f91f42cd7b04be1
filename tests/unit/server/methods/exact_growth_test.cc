// The exact top-K of a sum over participants against the dense sum.
#include "server/methods/growth/exact_growth.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/grow.h"
#include "common/sparsity/top_k.h"
#include "common/wire/index_set.h"
#include "common/wire/model_spec/train_additions.h"
#include "server/reduce/reducer.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

constexpr int64_t kPositions = 400;

// One sparse tensor of 20 × 20 without weights, and its bias.
std::shared_ptr<const tensor::ModelTopology> Empty() {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({.name = "w", .shape = {20, 20}, .rows = 20, .cols = 20, .sparsifiable = true});
  layout->push_back({.name = "b", .shape = {20}, .rows = 20, .cols = 1});
  return OneLayer(layout, {});
}

struct Participants {
  std::vector<int64_t> examples;
  std::vector<std::vector<float>> gradients;  // dense
  size_t size() const { return examples.size(); }
};

reduce::Partial Answer(const Participants& all, size_t k, const v1::GrowthTask& task) {
  reduce::Partial partial;
  partial.participant = std::to_string(k);
  partial.examples = all.examples[k];
  partial.scores.resize(2);
  const std::vector<float>& gradients = all.gradients[k];
  sparsity::TopK top(task.counts_size() > 0 ? task.counts(0) : 0);
  std::map<int64_t, float> reported;
  std::vector<int64_t> asked;
  if (task.positions_size() > 0) {
    asked = wire::DecodeIndexSet(task.positions(0), kPositions, kPositions).value();
  }
  for (int64_t i = 0; i < kPositions; ++i) {
    top.Offer(i, gradients[i]);
    const double weighted =
        std::abs(static_cast<double>(gradients[i])) * static_cast<double>(all.examples[k]);
    if ((task.thresholds_size() > 0 && task.thresholds(0) > 0 && weighted >= task.thresholds(0)) ||
        std::ranges::binary_search(asked, i)) {
      reported[i] = gradients[i];
    }
  }
  const auto best = top.TakeSorted();
  for (size_t i = 0; i < best.positions.size(); ++i) reported[best.positions[i]] = best.values[i];
  for (const auto& [position, value] : reported) {
    partial.scores[0].positions.push_back(position);
    partial.scores[0].values.push_back(value);
  }
  return partial;
}

reduce::Reduced Ask(const Participants& all, const v1::GrowthTask& task) {
  auto reducer = reduce::MakeReducer(reduce::ReducerKind::kMean, Empty(), {});
  for (size_t k = 0; k < all.size(); ++k) {
    const absl::Status merged = reducer->Merge(Answer(all, k, task));
    EXPECT_TRUE(merged.ok()) << merged;
  }
  return reducer->Finish().value();
}

// Top-K of the means of all entries.
std::vector<int64_t> Dense(const Participants& all, int64_t count) {
  v1::GrowthTask everything;
  everything.add_counts(kPositions);
  everything.add_counts(0);
  const reduce::Reduced reduced = Ask(all, everything);
  return sparsity::GrowByScore(reduced.scores[0].positions, reduced.scores[0].values, count);
}

std::vector<int64_t> ByLists(const Participants& all, int64_t count) {
  v1::GrowthTask task;
  task.add_counts(count);
  task.add_counts(0);
  const reduce::Reduced reduced = Ask(all, task);
  return sparsity::GrowByScore(reduced.scores[0].positions, reduced.scores[0].values, count);
}

struct Outcome {
  std::vector<int64_t> grown;
  int steps = 0;
  int64_t named = 0;  // positions whose values were asked for
};

Outcome Exact(const Participants& all, int64_t count) {
  ExactGrowth growth({count, 0});
  Outcome outcome;
  while (!growth.done()) {
    const v1::GrowthTask task = growth.Task(Empty()->layout());
    if (task.positions_size() > 0) outcome.named += static_cast<int64_t>(task.positions(0).count());
    EXPECT_TRUE(growth.Take(Ask(all, task)).ok());
    ++outcome.steps;
    // A saved state goes on as well.
    std::string bytes;
    io::ByteWriter writer(bytes);
    growth.Put(writer);
    io::ByteReader reader(bytes);
    growth = ExactGrowth::Get(reader);
    EXPECT_TRUE(reader.ok() && reader.at_end());
  }
  const std::vector<reduce::ScoreList> lists = growth.lists();
  outcome.grown = sparsity::GrowByScore(lists[0].positions, lists[0].values, count);
  return outcome;
}

Participants Random(uint64_t seed, size_t participants, double common) {
  base::Rng rng(seed);
  std::vector<double> shared(kPositions);
  for (double& value : shared) value = rng.Normal();
  Participants all;
  for (size_t k = 0; k < participants; ++k) {
    all.examples.push_back(static_cast<int64_t>(1 + rng.Below(500)));
    all.gradients.emplace_back();
    for (int64_t i = 0; i < kPositions; ++i) {
      all.gradients[k].push_back(static_cast<float>(common * shared[i] + rng.Normal()));
    }
  }
  return all;
}

TEST(ExactGrowthTest, EqualsTheTopOfTheDenseSumWhereListsDoNot) {
  int lists_differ = 0;
  for (uint64_t seed = 0; seed < 60; ++seed) {
    const Participants all = Random(seed, 1 + seed % 9, seed % 3 == 0 ? 0.0 : 1.0);
    for (const int64_t count : {1, 7, 40, 400}) {
      const std::vector<int64_t> expected = Dense(all, count);
      const Outcome exact = Exact(all, count);
      EXPECT_EQ(exact.grown, expected) << "seed " << seed << ", count " << count;
      EXPECT_LE(exact.steps, 5);
      if (all.size() == 1) {
        EXPECT_EQ(exact.steps, 1);
      }
      lists_differ += ByLists(all, count) == expected ? 0 : 1;
    }
  }
  EXPECT_GT(lists_differ, 30);
}

TEST(ExactGrowthTest, FindsWhatIsSecondInEveryList) {
  // Position 9 is below everyone's list, and has the largest sum.
  Participants all = {{10, 10, 10}, std::vector(3, std::vector<float>(kPositions, 0.0F))};
  for (size_t k = 0; k < 3; ++k) {
    all.gradients[k][k] = 1.0F;
    all.gradients[k][9] = 0.9F;
  }
  EXPECT_EQ(ByLists(all, 1), (std::vector<int64_t>{0}));
  EXPECT_EQ(Exact(all, 1).grown, (std::vector<int64_t>{9}));
}

TEST(ExactGrowthTest, AsksAgainWhereSumsCancel) {
  // What is largest in partial sums is nothing in the whole; the answer is below the first
  // threshold.
  Participants all = {{10, 10}, std::vector(2, std::vector<float>(kPositions, 0.0F))};
  all.gradients[0][3] = 5.0F;
  all.gradients[1][3] = -2.4F;
  all.gradients[1][8] = -2.5F;
  all.gradients[0][8] = 2.4F;
  all.gradients[0][30] = 0.7F;
  all.gradients[1][30] = 0.7F;
  for (const int64_t count : {1, 2, 3}) {
    const Outcome exact = Exact(all, count);
    EXPECT_EQ(exact.grown, Dense(all, count)) << count;
    EXPECT_LE(exact.steps, 5);
  }
}

TEST(ExactGrowthTest, NamesFewPositionsWhereParticipantsAgree) {
  const Outcome exact = Exact(Random(3, 5, 10.0), 10);
  EXPECT_LE(exact.named, 200) << "of 400";
}

TEST(ExactGrowthTest, AllZeroGradientsEnd) {
  const Participants all = {{1, 2}, std::vector(2, std::vector<float>(kPositions, 0.0F))};
  EXPECT_LE(Exact(all, 5).steps, 5);
}

TEST(ExactGrowthTest, AnswersWithoutListsAreRefused) {
  ExactGrowth growth({3, 0});
  EXPECT_EQ(base::ReasonOf(growth.Take({})), "GROWTH_SCORES_MISSING");
}

TEST(ExactGrowthTest, NothingToGrowIsDone) { EXPECT_TRUE(ExactGrowth({0, 0}).done()); }

// A whole job: what grows is the top of the dense mean of the participants' gradients.
TEST(ExactGrowthTest, RigLGrowsWhereTheMeanGradientIsLargest) {
  for (const char* method : {"rigl", "fedtiny", "fedmef"}) {
    v1::JobSpec spec = SmallJob(method);
    SetDouble(spec, "density", 0.2);
    SetWord(spec, "top_k", "exact");
    SetInt(spec, "update_every", 2);
    if (spec.method().name() != "rigl") {
      SetWord(spec, "progressive", "entire");
      SetWord(spec, "selection", "first");
      SetInt(spec, "stop_round", 18);
    }
    const test::FakeFleet fleet(4);
    const auto program = MethodRegistry::Builtin().Make(spec).value();
    const auto trace = test::RunJob(*program, fleet).value();
    int changes = 0;
    for (const Transition& transition : trace.transitions) {
      if (transition.state.step && transition.state.step->task.has_train()) {
        EXPECT_TRUE(
            wire::AdditionOf(transition.state.step->task.train(), v1::TrainAddition::kGrowth)
                .growth()
                .counts()
                .empty());
      }
      if (!transition.structure_change || !transition.committed) continue;
      for (const StructureChange::Tensor& change : transition.structure_change->tensors) {
        const tensor::Topology& base = transition.structure_change->base->topology(change.tensor);
        const std::vector<int64_t> active = base.Positions();
        std::vector<int64_t> inactive;
        std::vector<float> mean;
        for (int64_t position = 0; position < base.size(); ++position) {
          if (std::ranges::binary_search(active, position)) continue;
          double sum = 0;  // participant k has 10 (k + 1) of 100 examples
          for (uint64_t k = 0; k < 4; ++k) {
            sum -= 0.1 * static_cast<double>(k + 1) * fleet.Target(k, change.tensor, position);
          }
          inactive.push_back(position);
          mean.push_back(static_cast<float>(sum));
        }
        EXPECT_EQ(
            change.diff.grown,
            sparsity::GrowByScore(inactive, mean, static_cast<int64_t>(change.diff.grown.size())));
        ++changes;
      }
    }
    EXPECT_GT(changes, 5) << method;
  }
}

}  // namespace
}  // namespace espalier::server::methods
