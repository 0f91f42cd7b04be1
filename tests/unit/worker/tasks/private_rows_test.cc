#include "worker/tasks/recommender/private_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/tasks/recommender/private_update.h"
#include "worker/tasks/recommender/recommender_rows.h"

namespace espalier::worker::tasks {
namespace {

using ::testing::ElementsAre;

constexpr int64_t kUsers = 6;

v1::Task TaskOfRound(int32_t round, double density = 0.5) {
  v1::Task task;
  task.set_job("jobs/mine");
  task.set_participant("shard-2");
  task.set_shard(2);
  task.set_round(round);
  task.set_seed(9);
  v1::RecommenderSpec& model = *task.mutable_model()->mutable_spec()->mutable_recommender();
  model.set_users(100);
  model.set_items(10);
  model.set_private_users(true);
  model.mutable_neumf()->set_dimensions(4);
  task.mutable_train()->add_additions()->mutable_private_update()->set_density(density);
  return task;
}

std::shared_ptr<const tensor::ModelLayout> Layout() {
  return UserLayout(TaskOfRound(1), kUsers).value();
}

tensor::ModelState Rows() { return PrivateRows::Initial(TaskOfRound(1), Layout(), kUsers).value(); }

class PrivateRowsTest : public ::testing::Test {
 protected:
  // The files that are there.
  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(folder_.path() + "/mine")) {
      names.push_back(entry.path().filename());
    }
    std::sort(names.begin(), names.end());
    return names;
  }

  const data::DataFolder folder_;
  const PrivateRows rows_{folder_.path()};
};

TEST_F(PrivateRowsTest, FirstRowsHaveTheDensityWhereTablesAreSparse) {
  const tensor::ModelState rows = Rows();
  ASSERT_EQ(rows.topology->num_tensors(), 2u);
  EXPECT_EQ(rows.topology->layout()[0].name, "gmf.user_embeddings");
  EXPECT_FALSE(rows.topology->is_sparse(0));
  EXPECT_EQ(rows.topology->stored(1), 12);
  EXPECT_EQ(rows.values, Rows().values);
  v1::Task other = TaskOfRound(1);
  other.set_shard(3);
  EXPECT_NE(PrivateRows::Initial(other, Layout(), kUsers).value().values, rows.values);
  EXPECT_FALSE(
      PrivateRows::Initial(TaskOfRound(1, 1), Layout(), kUsers).value().topology->is_sparse(1));
}

TEST_F(PrivateRowsTest, WhatWasSavedIsReadBackWithOptimizerState) {
  tensor::ModelState rows = Rows();
  rows.optimizer_state.assign(2 * rows.values.size(), 0.5f);
  ASSERT_TRUE(rows_.Save(TaskOfRound(4), rows).ok());
  const auto back = rows_.Load(TaskOfRound(5), 4, Layout());
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_TRUE(back->has_value());
  EXPECT_EQ((*back)->topology->hash(), rows.topology->hash());
  EXPECT_EQ((*back)->values, rows.values);
  EXPECT_EQ((*back)->optimizer_state, rows.optimizer_state);
}

TEST_F(PrivateRowsTest, ARoundThatIsBegunAgainStartsFromTheRoundBefore) {
  tensor::ModelState rows = Rows();
  for (int round = 1; round <= 5; ++round) {
    rows.values[0] = static_cast<float>(round);
    ASSERT_TRUE(rows_.Save(TaskOfRound(round), rows).ok());
  }
  EXPECT_THAT(Files(), ElementsAre("shard-2-3.rows", "shard-2-4.rows", "shard-2-5.rows"));
  // A coordinator that was killed may know of a round less than was begun here.
  EXPECT_EQ(rows_.Load(TaskOfRound(4), 3, Layout()).value()->values[0], 3);
  EXPECT_EQ(rows_.Load(TaskOfRound(5), 4, Layout()).value()->values[0], 4);
  EXPECT_EQ(rows_.Load(TaskOfRound(6), 5, Layout()).value()->values[0], 5);
  // Cohorts may leave rounds out.
  EXPECT_EQ(rows_.Load(TaskOfRound(9), 8, Layout()).value()->values[0], 5);
  // An earlier job of this name is not gone on with.
  EXPECT_FALSE(rows_.Load(TaskOfRound(1), 0, Layout()).value().has_value());
  ASSERT_TRUE(rows_.Save(TaskOfRound(1), rows).ok());
  EXPECT_THAT(Files(), ElementsAre("shard-2-1.rows"));
}

TEST_F(PrivateRowsTest, DamageIsFoundAndOtherUsersAreRefused) {
  ASSERT_TRUE(rows_.Save(TaskOfRound(1), Rows()).ok());
  const auto other = UserLayout(TaskOfRound(1), kUsers + 1).value();
  EXPECT_EQ(base::ReasonOf(rows_.Load(TaskOfRound(2), 1, other).status()), "STATE_CORRUPT");
  const std::string path = folder_.path() + "/mine/shard-2-1.rows";
  std::string bytes = (std::ostringstream() << std::ifstream(path).rdbuf()).str();
  for (const size_t cut : {bytes.size() - 1, size_t{9}, size_t{0}}) {
    std::ofstream(path, std::ios::trunc) << bytes.substr(0, cut);
    EXPECT_EQ(base::ReasonOf(rows_.Load(TaskOfRound(2), 1, Layout()).status()), "STATE_CORRUPT");
  }
  bytes[bytes.size() / 2] ^= 1;
  std::ofstream(path, std::ios::trunc) << bytes;
  EXPECT_EQ(base::ReasonOf(rows_.Load(TaskOfRound(2), 1, Layout()).status()), "STATE_CORRUPT");
}

TEST_F(PrivateRowsTest, NamesThatArePathsAndMissingFoldersAreRefused) {
  v1::Task task = TaskOfRound(1);
  task.set_participant("../../x");
  EXPECT_EQ(base::ReasonOf(rows_.Save(task, Rows())), "INVALID_NAME");
  EXPECT_EQ(base::ReasonOf(PrivateRows("").Save(TaskOfRound(1), Rows())), "STATE_DIR_MISSING");
}

TEST_F(PrivateRowsTest, HalvesOfAModelJoinAndPartAgain) {
  v1::Task task = TaskOfRound(1);
  const auto layout = wire::LayoutOf(task.model().spec()).value();
  tensor::ModelState shared;
  shared.topology = std::make_shared<const tensor::ModelTopology>(
      tensor::ModelTopology::Create(
          layout, std::vector<std::shared_ptr<const tensor::Topology>>(layout->size()))
          .value());
  shared.values.assign(shared.topology->total_stored(), 1);
  shared.optimizer_state.assign(2 * shared.values.size(), 2);
  tensor::ModelState rows = Rows();
  rows.optimizer_state.assign(2 * rows.values.size(), 3);
  const tensor::ModelState whole = Join(shared, rows).value();
  EXPECT_EQ(whole.values.size(), shared.values.size() + rows.values.size());
  EXPECT_EQ(whole.optimizer_state.size(), 2 * whole.values.size());
  EXPECT_EQ(whole.topology->layout().back().name, "mlp.user_embeddings");
  const tensor::ModelState back = RowsOfUsers(whole, layout->size()).value();
  EXPECT_EQ(back.topology->hash(), rows.topology->hash());
  EXPECT_EQ(back.values, rows.values);
  EXPECT_EQ(back.optimizer_state, rows.optimizer_state);
}

TEST(PrivateUpdateTest, DropsAndGrowsAtAConstantCount) {
  const tensor::ModelState rows = Rows();
  v1::PrivateUpdate update;
  update.set_fraction(0.3);  // ⌈.3 · 12⌉ = 4
  const std::vector<float> gradients(rows.values.size(), 0.0f);
  std::vector<sparsity::ScoredPositions> candidates(2);
  const std::vector<int64_t> active = rows.topology->topology(1).Positions();
  for (int64_t position = 0; candidates[1].positions.size() < 4; ++position) {
    if (std::binary_search(active.begin(), active.end(), position)) continue;
    candidates[1].positions.push_back(position);
    candidates[1].values.push_back(1);
  }
  const auto changed = ChangeRows(update, rows, gradients, candidates, 1);
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->topology->stored(1), 12);
  const std::vector<int64_t> now = changed->topology->topology(1).Positions();
  for (const int64_t position : candidates[1].positions) {
    const auto at = std::lower_bound(now.begin(), now.end(), position);
    ASSERT_TRUE(at != now.end() && *at == position);
    EXPECT_EQ(changed->tensor(1)[at - now.begin()], 0);
  }
  update.set_grow_random(true);
  const auto random = ChangeRows(update, rows, gradients, candidates, 1);
  ASSERT_TRUE(random.ok());
  EXPECT_EQ(random->topology->stored(1), 12);
  EXPECT_NE(random->topology->hash(), rows.topology->hash());
  EXPECT_EQ(random->tensor(0)[0], rows.tensor(0)[0]);
}

}  // namespace
}  // namespace espalier::worker::tasks
