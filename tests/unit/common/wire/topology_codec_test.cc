#include "common/wire/topology_codec.h"

#include <google/protobuf/stubs/logging.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "common/sparsity/complement.h"
#include "common/sparsity/random_topology.h"

namespace espalier::wire {
namespace {

using tensor::ModelLayout;
using tensor::ModelTopology;
using tensor::Topology;
using Topologies = std::vector<std::shared_ptr<const Topology>>;

constexpr uint64_t kKey = 42;

std::shared_ptr<const ModelLayout> Layout() {
  return std::make_shared<const ModelLayout>(ModelLayout{{"w0", {20, 30}, 20, 30, true},
                                                         {"b0", {20}, 20, 1, false},
                                                         {"w1", {7, 1}, 7, 1, true},
                                                         {"w2", {5, 40}, 5, 40, true}});
}

std::shared_ptr<const Topology> Random(int64_t rows, int64_t cols, int64_t count, uint64_t key) {
  return std::make_shared<const Topology>(sparsity::RandomTopology(rows, cols, count, key).value());
}

// w0 at density d0 drawn from kKey, w1 one column, w2 as given.
ModelTopology Model(int64_t nnz0, int64_t nnz1, int64_t nnz2) {
  return ModelTopology::Create(Layout(), Topologies{Random(20, 30, nnz0, kKey), nullptr,
                                                    Random(7, 1, nnz1, 2), Random(5, 40, nnz2, 3)})
      .value();
}

// Drops every third weight of w0 and grows as many from `key`; drops all of w2 and grows nothing.
struct Change {
  std::vector<TensorChange> changes;
  std::optional<ModelTopology> updated;
};
Change Evolve(const ModelTopology& base, uint64_t key) {
  TensorChange first;
  first.tensor = 0;
  for (int32_t i = 0; i < base.topology(0).nnz(); i += 3) {
    first.diff.dropped.push_back(i);
  }
  const std::vector<int64_t> kept = sparsity::KeptPositions(base.topology(0), first.diff.dropped);
  const int64_t free = base.topology(0).size() - static_cast<int64_t>(kept.size());
  first.diff.grown = sparsity::RankToPosition(
      kept, sparsity::DrawPositions(key, static_cast<int64_t>(first.diff.dropped.size()), free));
  TensorChange second;
  second.tensor = 3;
  for (int32_t i = 0; i < base.topology(3).nnz(); ++i) {
    second.diff.dropped.push_back(i);
  }
  Topologies topologies = {
      std::make_shared<const Topology>(tensor::Apply(base.topology(0), first.diff).value()),
      nullptr, base.shared_topology(2),
      std::make_shared<const Topology>(tensor::Apply(base.topology(3), second.diff).value())};
  Change change;
  change.changes = {first, second};
  change.updated = ModelTopology::Create(base.shared_layout(), std::move(topologies)).value();
  return change;
}

void ExpectSame(const ModelTopology& a, const ModelTopology& b) {
  EXPECT_EQ(a.hash(), b.hash());
  for (size_t i = 0; i < a.num_tensors(); ++i) {
    ASSERT_EQ(a.is_sparse(i), b.is_sparse(i));
    if (a.is_sparse(i)) {
      EXPECT_EQ(a.topology(i), b.topology(i));
    }
  }
}

TEST(TopologyCodecTest, StructuresSurvive) {
  for (const auto& model :
       {Model(0, 0, 0), Model(60, 3, 100), Model(600, 7, 200), Model(1, 1, 1)}) {
    const v1::FullTopology message = EncodeTopology(model).value();
    const auto decoded = DecodeTopology(message, Layout());
    ASSERT_TRUE(decoded.ok()) << base::MessageOf(decoded.status());
    ExpectSame(**decoded, model);
  }
}

TEST(TopologyCodecTest, SeededStructureCostsNoBytesPerWeight) {
  const ModelTopology model = Model(300, 3, 100);
  const std::vector<std::optional<uint64_t>> keys = {kKey, std::nullopt, 2, 3};
  const v1::FullTopology message = EncodeTopology(model, keys).value();
  EXPECT_LT(message.ByteSizeLong(), 64u + 3u * 20u);
  const auto decoded = DecodeTopology(message, Layout());
  ASSERT_TRUE(decoded.ok()) << base::MessageOf(decoded.status());
  ExpectSame(**decoded, model);
}

TEST(TopologyCodecTest, KeyThatDoesNotGiveTheStructureIsAFault) {
  const std::vector<std::optional<uint64_t>> keys = {kKey + 1, std::nullopt, 2, 3};
  const auto message = EncodeTopology(Model(300, 3, 100), keys);
  EXPECT_EQ(message.status().code(), absl::StatusCode::kInternal);
  EXPECT_EQ(base::ReasonOf(message.status()), "SEED_MISMATCH");
}

TEST(TopologyCodecTest, OtherStructureThanAnnouncedIsRefused) {
  v1::FullTopology message = EncodeTopology(Model(60, 3, 100)).value();
  message.set_hash(Model(61, 3, 100).hash());
  EXPECT_EQ(base::ReasonOf(DecodeTopology(message, Layout()).status()), "TOPOLOGY_HASH_MISMATCH");
}

TEST(TopologyCodecTest, TensorsOutOfOrderOrRangeAreRefused) {
  v1::FullTopology message = EncodeTopology(Model(60, 3, 100)).value();
  for (const uint32_t tensor : {0u, 4u, ~0u}) {
    v1::FullTopology changed = message;
    changed.mutable_tensors(1)->set_tensor(tensor);
    EXPECT_EQ(base::ReasonOf(DecodeTopology(changed, Layout()).status()), "TOPOLOGY_INVALID");
  }
  message.mutable_tensors(1)->clear_form();
  EXPECT_EQ(base::ReasonOf(DecodeTopology(message, Layout()).status()), "TOPOLOGY_INVALID");
}

TEST(TopologyCodecTest, DeclaredCountsAreBoundedBeforePositionsAreDrawn) {
  const ModelTopology model = Model(300, 3, 100);
  const std::vector<std::optional<uint64_t>> keys = {kKey, std::nullopt, 2, 3};
  v1::FullTopology message = EncodeTopology(model, keys).value();
  EXPECT_TRUE(DecodeTopology(message, Layout(), 403).ok());
  EXPECT_FALSE(DecodeTopology(message, Layout(), 402).ok());
  EXPECT_FALSE(DecodeTopology(message, Layout(), -5).ok());
  message.mutable_tensors(0)->mutable_seeded()->set_count(~uint64_t{0});
  EXPECT_EQ(base::ReasonOf(DecodeTopology(message, Layout()).status()), "TOPOLOGY_INVALID");
}

TEST(TopologyUpdateTest, UpdatesGiveTheNewStructure) {
  const ModelTopology base = Model(60, 3, 100);
  Change change = Evolve(base, 77);
  for (const bool seeded : {false, true}) {
    if (seeded) {
      change.changes[0].growth_key = 77;
    }
    const auto update = EncodeTopologyUpdate(base, *change.updated, change.changes);
    ASSERT_TRUE(update.ok()) << base::MessageOf(update.status());
    EXPECT_EQ(update->tensors(0).has_seeded(), seeded);
    const auto applied = ApplyTopologyUpdate(base, *update);
    ASSERT_TRUE(applied.ok()) << base::MessageOf(applied.status());
    ExpectSame(**applied, *change.updated);
  }
}

TEST(TopologyUpdateTest, JustDroppedPositionsMayGrowAgain) {
  const ModelTopology base = Model(600, 7, 200);
  TensorChange change;
  change.tensor = 0;
  change.diff.dropped = {0, 5, 599};
  change.diff.grown = {5};
  Topologies topologies = {
      std::make_shared<const Topology>(tensor::Apply(base.topology(0), change.diff).value()),
      nullptr, base.shared_topology(2), base.shared_topology(3)};
  const ModelTopology updated =
      ModelTopology::Create(base.shared_layout(), std::move(topologies)).value();
  const auto update = EncodeTopologyUpdate(base, updated, {&change, 1});
  ASSERT_TRUE(update.ok());
  EXPECT_EQ(update->tensors(0).ranks().universe(), 3u);
  ExpectSame(*ApplyTopologyUpdate(base, *update).value(), updated);
}

TEST(TopologyUpdateTest, UpdateOfAnotherStructureIsRefused) {
  const ModelTopology base = Model(60, 3, 100);
  const Change change = Evolve(base, 77);
  v1::TopologyUpdate update = EncodeTopologyUpdate(base, *change.updated, change.changes).value();
  EXPECT_EQ(base::ReasonOf(ApplyTopologyUpdate(*change.updated, update).status()),
            "TOPOLOGY_HASH_MISMATCH");
  update.set_hash(base.hash());
  EXPECT_EQ(base::ReasonOf(ApplyTopologyUpdate(base, update).status()), "TOPOLOGY_HASH_MISMATCH");
}

TEST(TopologyUpdateTest, WrongGrowthKeyAndWrongDiffAreFaults) {
  const ModelTopology base = Model(60, 3, 100);
  Change change = Evolve(base, 77);
  change.changes[0].growth_key = 78;
  EXPECT_EQ(base::ReasonOf(EncodeTopologyUpdate(base, *change.updated, change.changes).status()),
            "SEED_MISMATCH");
  change.changes[0].diff.dropped = {100};
  EXPECT_EQ(base::ReasonOf(EncodeTopologyUpdate(base, *change.updated, change.changes).status()),
            "TOPOLOGY_INVALID");
}

TEST(TopologyUpdateTest, DenseTensorBecomesSparse) {
  const ModelTopology base = ModelTopology::Create(Layout(), Topologies{Random(20, 30, 60, kKey),
                                                                        nullptr, nullptr, nullptr})
                                 .value();
  std::vector<TensorChange> changes(2);
  changes[0].tensor = 0;
  changes[0].diff.dropped = {1};
  changes[1].tensor = 3;
  for (int32_t i = 0; i < 200; ++i) {
    if (i % 10 != 3) changes[1].diff.dropped.push_back(i);
  }
  const ModelTopology updated =
      ModelTopology::Create(
          base.shared_layout(),
          Topologies{std::make_shared<const Topology>(
                         tensor::Apply(base.topology(0), changes[0].diff).value()),
                     nullptr, nullptr,
                     std::make_shared<const Topology>(
                         tensor::Apply(*base.Structure(3).value(), changes[1].diff).value())})
          .value();
  EXPECT_EQ(updated.topology(3).nnz(), 20);
  const v1::TopologyUpdate update = EncodeTopologyUpdate(base, updated, changes).value();
  const auto decoded = ApplyTopologyUpdate(base, update);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ExpectSame(**decoded, updated);
  EXPECT_FALSE((*decoded)->is_sparse(2)) << "what does not change stays dense";
}

TEST(TopologyUpdateTest, ExemptTensorsAndWrongOrderAreRefused) {
  const ModelTopology base = Model(60, 3, 100);
  const Change change = Evolve(base, 77);
  const v1::TopologyUpdate good =
      EncodeTopologyUpdate(base, *change.updated, change.changes).value();
  for (const uint32_t tensor : {1u, 0u, 4u}) {
    v1::TopologyUpdate update = good;
    update.mutable_tensors(1)->set_tensor(tensor);
    EXPECT_EQ(base::ReasonOf(ApplyTopologyUpdate(base, update).status()), "TOPOLOGY_INVALID")
        << tensor;
  }
  v1::TopologyUpdate update = good;
  update.mutable_tensors(0)->clear_grown();
  EXPECT_EQ(base::ReasonOf(ApplyTopologyUpdate(base, update).status()), "TOPOLOGY_INVALID");
}

TEST(TopologyUpdateTest, GrowthBeyondTheLimitIsRefused) {
  const ModelTopology base = Model(60, 3, 100);
  Change change = Evolve(base, 77);
  change.changes[0].growth_key = 77;
  const v1::TopologyUpdate update =
      EncodeTopologyUpdate(base, *change.updated, change.changes).value();
  EXPECT_TRUE(ApplyTopologyUpdate(base, update, 63).ok());
  EXPECT_FALSE(ApplyTopologyUpdate(base, update, 62).ok());
  EXPECT_FALSE(ApplyTopologyUpdate(base, update, 10).ok());
}

// The hash stands for the whole structure, so whatever decodes after a change is the original.
TEST(TopologyCodecTest, EveryBitFlipAndTruncationIsRefusedOrGivesTheSameStructure) {
  const google::protobuf::LogSilencer silence;  // it reports each string that is not UTF-8
  const ModelTopology base = Model(12, 3, 9);
  const Change change = Evolve(base, 77);
  const std::string full = EncodeTopology(base).value().SerializeAsString();
  const std::string update =
      EncodeTopologyUpdate(base, *change.updated, change.changes).value().SerializeAsString();
  const auto try_both = [&](const std::string& full_bytes, const std::string& update_bytes) {
    v1::FullTopology full_message;
    if (full_message.ParseFromString(full_bytes)) {
      const auto decoded = DecodeTopology(full_message, Layout());
      EXPECT_TRUE(!decoded.ok() || (*decoded)->hash() == base.hash());
    }
    v1::TopologyUpdate update_message;
    if (update_message.ParseFromString(update_bytes)) {
      const auto applied = ApplyTopologyUpdate(base, update_message);
      EXPECT_TRUE(!applied.ok() || (*applied)->hash() == change.updated->hash());
    }
  };
  for (size_t bit = 0; bit < 8 * std::max(full.size(), update.size()); ++bit) {
    std::string a = full;
    std::string b = update;
    a[bit / 8 % a.size()] = static_cast<char>(a[bit / 8 % a.size()] ^ (1 << (bit % 8)));
    b[bit / 8 % b.size()] = static_cast<char>(b[bit / 8 % b.size()] ^ (1 << (bit % 8)));
    try_both(a, b);
    try_both(full.substr(0, bit / 8), update.substr(0, bit / 8));
  }
}

}  // namespace
}  // namespace espalier::wire
