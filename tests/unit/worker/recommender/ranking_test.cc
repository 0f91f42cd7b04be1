// Ranking metrics against a brute-force reference.
#include "worker/recommender/ranking.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/unit/worker/recommender/fixtures.h"
#include "tests/unit/worker/recommender/reference_models.h"

namespace espalier::worker::recommender {
namespace {

// Scores from a table.
class TableScorer final : public Scorer {
 public:
  TableScorer(int64_t items, std::vector<float> scores)
      : items_(items), scores_(std::move(scores)) {}
  std::unique_ptr<Scorer> Clone() const override { return std::make_unique<TableScorer>(*this); }
  void Score(std::span<const int32_t> users, int64_t first_item, int64_t num_items,
             float* scores) override {
    for (size_t u = 0; u < users.size(); ++u) {
      std::copy_n(scores_.begin() + users[u] * items_ + first_item, num_items,
                  scores + static_cast<int64_t>(u) * num_items);
    }
  }
  void ScoreItems(int32_t user, std::span<const int32_t> items, float* scores) override {
    for (size_t j = 0; j < items.size(); ++j) scores[j] = scores_[user * items_ + items[j]];
  }

 private:
  int64_t items_;
  std::vector<float> scores_;
};

Interactions RandomSet(int64_t users, int64_t items, uint64_t seed, const Interactions* without) {
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> columns;
  base::Rng rng(seed);
  for (int64_t user = 0; user < users; ++user) {
    const double share = user % 7 == 3 ? 0 : 0.01 * static_cast<double>(user % 5 + 1);
    for (int32_t item = 0; item < items; ++item) {
      const bool drawn = rng.Uniform() < share;
      if (drawn && (without == nullptr || !without->Contains(user, item))) columns.push_back(item);
    }
    offsets.push_back(static_cast<int64_t>(columns.size()));
  }
  return Interactions::Create(items, std::move(offsets), std::move(columns)).value();
}

// The metrics as they are defined, from a full sort.
RankingSums BruteForce(const std::vector<float>& scores, const Interactions& masked,
                       const Interactions& held_out, std::span<const int64_t> cutoffs) {
  RankingSums sums;
  for (const int64_t k : cutoffs) sums.at.push_back({.cutoff = k});
  const int64_t items = held_out.items();
  for (int64_t user = 0; user < held_out.users(); ++user) {
    if (held_out.CountOf(user) == 0) continue;
    ++sums.users;
    std::vector<int32_t> order;
    for (int32_t item = 0; item < items; ++item) {
      if (!masked.Contains(user, item)) order.push_back(item);
    }
    std::ranges::stable_sort(order, [&](int32_t a, int32_t b) {
      return scores[user * items + a] > scores[user * items + b];
    });
    for (auto& at : sums.at) {
      double hits = 0;
      double dcg = 0;
      double ideal = 0;
      for (int64_t i = 1; i <= std::min<int64_t>(at.cutoff, held_out.CountOf(user)); ++i) {
        ideal += 1 / std::log2(static_cast<double>(i) + 1);
      }
      for (int64_t i = 1; i <= std::min<int64_t>(at.cutoff, order.size()); ++i) {
        if (!held_out.Contains(user, order[i - 1])) continue;
        ++hits;
        dcg += 1 / std::log2(static_cast<double>(i) + 1);
      }
      const auto wanted = static_cast<double>(held_out.CountOf(user));
      at.recall += hits / wanted;
      at.truncated_recall += hits / std::min(wanted, static_cast<double>(at.cutoff));
      at.ndcg += dcg / ideal;
      at.precision += hits / static_cast<double>(at.cutoff);
      at.hit_rate += hits > 0 ? 1 : 0;
    }
  }
  return sums;
}

void ExpectSame(const RankingSums& actual, const RankingSums& expected) {
  EXPECT_EQ(actual.users, expected.users);
  ASSERT_EQ(actual.at.size(), expected.at.size());
  for (size_t i = 0; i < actual.at.size(); ++i) {
    EXPECT_NEAR(actual.at[i].recall, expected.at[i].recall, 1e-9);
    EXPECT_NEAR(actual.at[i].truncated_recall, expected.at[i].truncated_recall, 1e-9);
    EXPECT_NEAR(actual.at[i].ndcg, expected.at[i].ndcg, 1e-9);
    EXPECT_NEAR(actual.at[i].precision, expected.at[i].precision, 1e-9);
    EXPECT_EQ(actual.at[i].hit_rate, expected.at[i].hit_rate);
  }
}

class RankAllItemsTest : public ::testing::TestWithParam<int> {};

TEST_P(RankAllItemsTest, AgreesWithABruteForceSortAmongTies) {
  constexpr int64_t kManyUsers = 300;   // more than one tile of users
  constexpr int64_t kManyItems = 2300;  // more than one tile of items
  std::vector<float> scores(kManyUsers * kManyItems);
  base::Rng rng(1);
  for (float& score : scores) score = static_cast<float>(rng.Below(GetParam())) - 2.0F;
  const Interactions masked = RandomSet(kManyUsers, kManyItems, 2, nullptr);
  const Interactions held_out = RandomSet(kManyUsers, kManyItems, 3, &masked);
  const std::vector<int64_t> cutoffs = {1, 5, 20, 50};
  const RankingSums expected = BruteForce(scores, masked, held_out, cutoffs);
  const TableScorer scorer(kManyItems, scores);
  const RankingSums once = RankAllItems(scorer, masked, held_out, cutoffs, 1);
  ExpectSame(once, expected);
  const RankingSums thrice = RankAllItems(scorer, masked, held_out, cutoffs, 3);
  for (size_t i = 0; i < cutoffs.size(); ++i) EXPECT_EQ(once.at[i].ndcg, thrice.at[i].ndcg);
}

INSTANTIATE_TEST_SUITE_P(NumbersOfDistinctScores, RankAllItemsTest,
                         ::testing::Values(1, 3, 50, 1 << 30));

TEST(RankingTest, FewerItemsThanTheCutoff) {
  const TableScorer scorer(3, {0.5F, 0.1F, 0.9F});
  const auto masked = Interactions::Create(3, {0, 1}, {2}).value();
  const auto held_out = Interactions::Create(3, {0, 1}, {1}).value();
  const int64_t cutoff = 20;
  const RankingSums sums = RankAllItems(scorer, masked, held_out, std::span(&cutoff, 1), 1);
  EXPECT_EQ(sums.at[0].recall, 1);
  EXPECT_NEAR(sums.at[0].ndcg, 1 / std::log2(3.0), 1e-12);  // second of two
  EXPECT_DOUBLE_EQ(sums.at[0].precision, 0.05);
}

TEST(RankingTest, NotANumberRanksLastAndMinusInfinityBeforeLaterItems) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  TableScorer scorer(4, {nan, -1.0F, 2.0F, nan});
  const auto top = TopItems(scorer, 0, 4, {}, 4);
  std::vector<int32_t> items;
  for (const RankedItem& ranked : top) items.push_back(ranked.item);
  EXPECT_THAT(items, ::testing::ElementsAre(2, 1, 0, 3));
}

TEST(RankingTest, CandidatesAreRankedAmongThemselves) {
  const TableScorer scorer(6, {0.1F, 0.9F, 0.5F, 0.5F, 0.7F, 0.3F});
  const auto candidates = Interactions::Create(6, {0, 3}, {0, 2, 5}).value();
  const auto held_out = Interactions::Create(6, {0, 1}, {3}).value();
  const std::vector<int64_t> cutoffs = {1, 2};
  const RankingSums sums = RankCandidates(scorer, candidates, held_out, cutoffs, 1);
  EXPECT_EQ(sums.users, 1);
  EXPECT_EQ(sums.at[0].hit_rate, 0);  // item 2 has the same score and the lower id
  EXPECT_EQ(sums.at[1].hit_rate, 1);
  EXPECT_NEAR(sums.at[1].ndcg, 1 / std::log2(3.0), 1e-12);
}

TEST(RankingTest, TopItemsLeavesOutMaskedOnes) {
  TableScorer scorer(5, {0.1F, 0.9F, 0.5F, 0.9F, 0.2F});
  const std::vector<int32_t> masked = {1};
  const auto top = TopItems(scorer, 0, 5, masked, 2);
  ASSERT_EQ(top.size(), 2u);
  EXPECT_EQ(top[0].item, 3);
  EXPECT_EQ(top[0].score, 0.9F);
  EXPECT_EQ(top[1].item, 2);
  EXPECT_EQ(TopItems(scorer, 0, 5, masked, 100).size(), 4u);
}

class ScorerTest : public ::testing::TestWithParam<std::pair<const char*, double>> {};

TEST_P(ScorerTest, ScoresAreThoseOfTheReferenceWhicheverWayTheyAreAskedFor) {
  const auto spec = SmallSpec(GetParam().first);
  const auto train = SmallInteractions();
  const auto topology = MakeTopology(spec, GetParam().second);
  const auto model = MakeModel(spec, topology, train);
  const auto scorer = model->MakeScorer(*train)->Clone();
  const Tensors tensors = DenseTensors(*topology, model->values());
  const std::vector<int32_t> users = {3, 0, 69, 17};
  std::vector<float> scores(users.size() * 40);
  scorer->Score(users, 21, 40, scores.data());
  std::vector<int32_t> items(40);
  std::iota(items.begin(), items.end(), 21);
  for (size_t u = 0; u < users.size(); ++u) {
    std::vector<float> one(40);
    scorer->ScoreItems(users[u], items, one.data());
    for (int64_t j = 0; j < 40; ++j) {
      double expected = 0;
      const int64_t item = 21 + j;
      if (spec.has_lightgcn()) {
        const auto final = ReferenceEmbeddings(spec.lightgcn(), *train, tensors);
        const auto& user_row = final[users[u]];
        for (size_t d = 0; d < user_row.size(); ++d)
          expected += user_row[d] * final[kUsers + item][d];
        // The library leaves out the factors that do not change the order.
        expected *= (spec.lightgcn().layers() + 1) * (spec.lightgcn().layers() + 1);
      } else if (spec.has_autoint()) {
        expected = AutoIntScore(spec.autoint(), SmallFields(spec), tensors, users[u],
                                static_cast<int32_t>(item));
      } else if (spec.has_neumf()) {
        expected = NeuMfScore(spec.neumf(), tensors, users[u], item);
      } else {
        const auto history = train->Of(users[u]);
        const std::vector<float> inputs(
            history.size(), static_cast<float>(1 / std::sqrt(static_cast<double>(history.size()))));
        double divergence = 0;
        expected = VaeScores(spec.multvae(), tensors, history, inputs, {}, divergence)[item];
      }
      EXPECT_NEAR(scores[u * 40 + j], expected, 1e-4 + 1e-4 * std::abs(expected));
      EXPECT_NEAR(one[j], expected, 1e-4 + 1e-4 * std::abs(expected));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    Models, ScorerTest,
    ::testing::Values(std::pair{"lightgcn { dimensions: 10 layers: 2 }", 0.4},
                      std::pair{"lightgcn { dimensions: 16 layers: 0 }", 1.0},
                      std::pair{"neumf { dimensions: 5 hidden: 6 }", 0.4},
                      std::pair{"autoint { dimensions: 5 units: 8 fields { values: 7 } }", 0.4},
                      std::pair{"multvae { hidden: 9 latent: 4 }", 0.4},
                      std::pair{"multvae { hidden: 9 latent: 4 }", 1.0}),
    [](const auto& info) { return "Case" + std::to_string(info.index); });

}  // namespace
}  // namespace espalier::worker::recommender
