// What a program takes of a planner's decision, and what it refuses.
#include "server/methods/planning/decision.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "server/methods/evolution.h"

namespace espalier::server::methods {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// A sparse 2 × 4 tensor with weights at 0, 3, 5, and a dense bias of two.
tensor::ModelTopology Model() {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"weight", {2, 4}, 2, 4, /*sparsifiable=*/true});
  layout->push_back({"bias", {2}, 2, 1});
  const std::vector<int64_t> positions = {0, 3, 5};
  auto sparse = std::make_shared<const tensor::Topology>(
      tensor::Topology::FromPositions(2, 4, positions).value());
  return tensor::ModelTopology::Create(layout, {sparse, nullptr}).value();
}

StructureChange::Tensor Change(size_t tensor, std::vector<int32_t> dropped,
                               std::vector<int64_t> grown,
                               std::optional<uint64_t> key = std::nullopt) {
  return {tensor, {std::move(dropped), std::move(grown)}, key};
}

absl::StatusOr<Evolution> Read(const Evolution& decision) {
  return ReadDecision(Model(), std::vector<int64_t>{3, 2}, EncodeDecision(decision));
}

TEST(DecisionTest, PositionsComeBackAsTheyWere) {
  const auto read = Read({Change(0, {0, 2}, {2, 5})});
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 1U);
  EXPECT_THAT(read->front().diff.dropped, ElementsAre(0, 2));
  EXPECT_THAT(read->front().diff.grown, ElementsAre(2, 5)) << "5 goes and comes back as a new one";
}

TEST(DecisionTest, KeyGrowsAsManyAsGoByTheCoordinatorsOwnDraw) {
  const auto read = Read({Change(0, {1}, {}, 42)});
  ASSERT_TRUE(read.ok()) << read.status();
  StructureChange::Tensor expected = Change(0, {1}, {});
  GrowAtRandom(Model(), 42, expected);
  EXPECT_EQ(read->front().diff.grown, expected.diff.grown);
  EXPECT_EQ(read->front().growth_key, 42U);
}

TEST(DecisionTest, NothingMeansNoChange) {
  const auto read = ReadDecision(Model(), std::vector<int64_t>{3, 2}, "");
  ASSERT_TRUE(read.ok());
  EXPECT_TRUE(read->empty());
  EXPECT_TRUE(Read({}).value().empty());
}

TEST(DecisionTest, FewerWeightsAreTaken) { EXPECT_TRUE(Read({Change(0, {0, 1}, {})}).ok()); }

TEST(DecisionTest, WhatDoesNotFitIsRefusedAndSaysWhy) {
  const struct {
    const char* name;
    Evolution decision;
    const char* said;
  } cases[] = {
      {"a tensor that is not there", {Change(2, {0}, {1})}, "tensor 2 of 2"},
      {"a tensor that is dense", {Change(1, {0}, {1})}, "tensor 1 of 2"},
      {"a tensor twice", {Change(0, {0}, {1}), Change(0, {1}, {2})}, "ascending order"},
      {"an index beyond the weights", {Change(0, {3}, {1})}, "from 0 to 2, found 3"},
      {"a negative index", {Change(0, {-1}, {1})}, "found -1"},
      {"an index twice", {Change(0, {1, 1}, {1, 2})}, "ascending order"},
      {"indices that descend", {Change(0, {2, 0}, {1, 2})}, "ascending order"},
      {"a position beyond the tensor", {Change(0, {0}, {8})}, "from 0 to 7, found 8"},
      {"a negative position", {Change(0, {0}, {-1})}, "found -1"},
      {"a position twice", {Change(0, {0, 1}, {1, 1})}, "ascending order"},
      {"growth where a weight stays", {Change(0, {0}, {3})}, "found 3, whose weight stays"},
      {"more weights than the job may have", {Change(0, {0}, {1, 2})}, "1 to 3 weights"},
      {"no weight left", {Change(0, {0, 1, 2}, {})}, "found 0"},
  };
  for (const auto& [name, decision, said] : cases) {
    SCOPED_TRACE(name);
    const auto read = Read(decision);
    ASSERT_FALSE(read.ok());
    EXPECT_EQ(base::ReasonOf(read.status()), "INVALID_DECISION");
    EXPECT_THAT(base::MessageOf(read.status()), HasSubstr(said));
  }
}

TEST(DecisionTest, KeyAndPositionsAreRefused) {
  std::string bytes;
  io::ByteWriter writer(bytes);
  PutEvolution({Change(0, {0}, {1}, 42)}, writer);
  const auto read = ReadDecision(Model(), std::vector<int64_t>{3, 2}, bytes);
  EXPECT_THAT(base::MessageOf(read.status()), HasSubstr("found both"));
}

TEST(DecisionTest, DamagedBytesAreRefusedOrFit) {
  const std::string whole = EncodeDecision({Change(0, {0, 2}, {2, 6})});
  for (size_t size = 1; size < whole.size(); ++size) {
    EXPECT_FALSE(ReadDecision(Model(), std::vector<int64_t>{3, 2}, whole.substr(0, size)).ok());
  }
  base::Rng rng(1);
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = whole;
    damaged[rng.Below(damaged.size())] = static_cast<char>(rng.Below(256));
    const auto read = ReadDecision(Model(), std::vector<int64_t>{3, 2}, damaged);
    if (!read.ok()) {
      EXPECT_EQ(base::ReasonOf(read.status()), "INVALID_DECISION");
      continue;
    }
    tensor::ModelState model;
    model.topology = std::make_shared<const tensor::ModelTopology>(Model());
    model.values.assign(model.topology->total_stored(), 1.0F);
    const auto evolved = Evolve(model, *read, [](const StructureChange::Tensor& change) {
      return std::vector<float>(change.diff.grown.size(), 0.0F);
    });
    EXPECT_TRUE(evolved.ok()) << evolved.status();
  }
}

}  // namespace
}  // namespace espalier::server::methods
