#include "worker/tasks/model_cache.h"

#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/random_topology.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"
#include "tests/support/blob_map.h"

namespace espalier::worker::tasks {
namespace {

// Blobs by digest, and which of them were fetched.
class ModelCacheTest : public testing::Test {
 protected:
  // 20 – 10 – 3.
  static v1::ModelSpec Spec(bool last_is_dense) {
    v1::ModelSpec spec;
    spec.set_input_features(20);
    spec.add_layers()->mutable_linear()->set_units(10);
    v1::LinearLayer& last = *spec.add_layers()->mutable_linear();
    last.set_units(3);
    last.set_dense(last_is_dense);
    return spec;
  }

  // A task on a model of this spec with values of `value`; `key` 0: all weights of the first layer are stored.
  v1::Task TaskOf(const v1::ModelSpec& spec, uint64_t key, float value,
                  const std::string& run = "") {
    const auto layout = wire::LayoutOf(spec).value();
    std::vector<std::shared_ptr<const tensor::Topology>> topologies(layout->size());
    if (key != 0) {
      topologies[0] = std::make_shared<const tensor::Topology>(
          sparsity::RandomTopology(10, 20, 50, key).value());
    }
    const auto topology = tensor::ModelTopology::Create(layout, std::move(topologies)).value();
    v1::Task task;
    task.set_run(run);
    v1::ModelRef& model = *task.mutable_model();
    *model.mutable_spec() = spec;
    model.set_topology_hash(topology.hash());
    *model.mutable_topology() =
        blobs_.Put(wire::EncodeTopology(topology).value().SerializeAsString());
    const std::vector<float> values(static_cast<size_t>(topology.total_stored()), value);
    *model.mutable_values() = blobs_.Put(std::string(wire::ValuesAsBytes(values)));
    return task;
  }

  bool Fetched(const v1::BlobRef& ref) const { return fetched_.contains(ref.digest()); }

  test::BlobMap blobs_;
  std::set<std::string> fetched_;
  ModelCache cache_{[this](const v1::BlobRef& ref) -> absl::StatusOr<std::string> {
    fetched_.insert(ref.digest());
    return blobs_.at(ref);
  }};
};

// Their hashes and values are equal, and still the models differ in what may be pruned.
TEST_F(ModelCacheTest, ModelsOfOneShapeThatMayBeSparseElsewhereAreTwo) {
  const v1::Task exempt = TaskOf(Spec(true), 0, 1);
  const v1::Task free = TaskOf(Spec(false), 0, 1);
  ASSERT_EQ(exempt.model().topology_hash(), free.model().topology_hash());
  EXPECT_FALSE(cache_.Get(exempt).value()->topology->layout()[2].sparsifiable);
  EXPECT_TRUE(cache_.Get(free).value()->topology->layout()[2].sparsifiable);
}

TEST_F(ModelCacheTest, StructuresAndValuesAreFetchedOnce) {
  const v1::Task first = TaskOf(Spec(true), 1, 1);
  ASSERT_TRUE(cache_.Get(first).ok());
  fetched_.clear();
  ASSERT_TRUE(cache_.Get(first).ok());
  EXPECT_TRUE(fetched_.empty());
  const v1::Task next = TaskOf(Spec(true), 1, 2);
  ASSERT_TRUE(cache_.Get(next).ok());
  EXPECT_FALSE(Fetched(next.model().topology()));
  EXPECT_TRUE(Fetched(next.model().values()));
}

TEST_F(ModelCacheTest, OfAJobWithOneModelTheLastTwoStructuresAreKept) {
  for (uint64_t key = 1; key <= 3; ++key) {
    ASSERT_TRUE(cache_.Get(TaskOf(Spec(true), key, 1)).ok());
  }
  for (const auto& [key, known] : {std::pair{3, true}, {2, true}, {1, false}}) {
    fetched_.clear();
    const v1::Task task = TaskOf(Spec(true), static_cast<uint64_t>(key), 5);
    ASSERT_TRUE(cache_.Get(task).ok());
    EXPECT_EQ(Fetched(task.model().topology()), !known) << key;
  }
}

TEST_F(ModelCacheTest, OfModelsSideBySideAFewMoreAreKept) {
  for (uint64_t key = 1; key <= 10; ++key) {
    ASSERT_TRUE(cache_.Get(TaskOf(Spec(true), key, 1, "candidate-" + std::to_string(key))).ok());
  }
  fetched_.clear();
  for (uint64_t key = 1; key <= 10; ++key) {
    const v1::Task task = TaskOf(Spec(true), key, 2, "candidate-" + std::to_string(key));
    ASSERT_TRUE(cache_.Get(task).ok());
    EXPECT_FALSE(Fetched(task.model().topology())) << key;
  }
  // They go when a job with one model comes.
  ASSERT_TRUE(cache_.Get(TaskOf(Spec(true), 11, 1)).ok());
  fetched_.clear();
  const v1::Task old = TaskOf(Spec(true), 5, 3, "candidate-5");
  ASSERT_TRUE(cache_.Get(old).ok());
  EXPECT_TRUE(Fetched(old.model().topology()));
}

}  // namespace
}  // namespace espalier::worker::tasks
