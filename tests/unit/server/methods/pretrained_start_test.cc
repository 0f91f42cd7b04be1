// Training that begins with a checkpoint of a network.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "common/base/status.h"
#include "common/config/validate.h"
#include "server/methods/start/dense_source.h"
#include "tests/unit/server/methods/test_jobs.h"
#include "tests/unit/server/methods/trained_models.h"

namespace espalier::server::methods {
namespace {

using ::testing::HasSubstr;

v1::JobSpec PretrainedJob(const std::string& method) {
  v1::JobSpec spec = ConvJob(method);
  spec.mutable_model()->set_pretrained("checkpoints/first-7");
  return spec;
}

class PretrainedStartTest : public testing::Test {
 protected:
  std::unique_ptr<Program> Make(const v1::JobSpec& spec) {
    auto program = MethodRegistry::Builtin(models_.library()).Make(spec);
    EXPECT_TRUE(program.ok()) << program.status();
    return std::move(program).value();
  }

  TrainedModels models_{testing::UnitTest::GetInstance()->current_test_info()->name()};
};

TEST_F(PretrainedStartTest, CandidatesKeepTheLargestWeightsOfTheCheckpoint) {
  for (const char* method : {"fedtiny", "fedmef"}) {
    v1::JobSpec spec = PretrainedJob(method);
    SetDouble(spec, "density", 0.2);
    SetInt(spec, "pool_size", 3);
    const tensor::ModelState dense = models_.Write(spec.model());
    const tensor::ModelState candidate = Make(spec)->Start().value().state.runs.front().model;
    const tensor::ModelTopology& topology = *candidate.topology;
    EXPECT_LT(topology.sparsifiable_stored(), topology.sparsifiable_size() / 4);
    for (size_t t = 0; t < topology.num_tensors(); ++t) {
      const auto all = dense.tensor(t);
      if (!topology.is_sparse(t)) {
        EXPECT_TRUE(std::ranges::equal(candidate.tensor(t), all)) << "tensor " << t;
        continue;
      }
      std::vector<int64_t> order(all.size());
      std::iota(order.begin(), order.end(), 0);
      std::ranges::stable_sort(
          order, [&](int64_t a, int64_t b) { return std::abs(all[a]) > std::abs(all[b]); });
      order.resize(topology.stored(t));
      std::ranges::sort(order);
      EXPECT_EQ(topology.topology(t).Positions(), order) << "tensor " << t;
      for (size_t k = 0; k < order.size(); ++k) {
        EXPECT_EQ(candidate.tensor(t)[k], all[order[k]]);
      }
    }
  }
}

TEST_F(PretrainedStartTest, DenseTrainingGoesOnFromAllOfIt) {
  for (const char* method : {"dense", "finetune"}) {
    const v1::JobSpec spec = PretrainedJob(method);
    const tensor::ModelState dense = models_.Write(spec.model());
    EXPECT_EQ(Make(spec)->Start().value().state.model.values, dense.values) << method;
  }
}

TEST_F(PretrainedStartTest, SparseMethodsKeepTheLargestWeightsOfADenseCheckpoint) {
  for (const char* method : {"static", "set", "rigl"}) {
    v1::JobSpec spec = PretrainedJob(method);
    SetDouble(spec, "density", 0.25);
    const tensor::ModelState dense = models_.Write(spec.model());
    const tensor::ModelState first = Make(spec)->Start().value().state.model;
    EXPECT_LT(first.topology->sparsifiable_stored(), first.topology->sparsifiable_size() / 3);
    for (size_t t = 0; t < first.topology->num_tensors(); ++t) {
      if (!first.topology->is_sparse(t)) {
        EXPECT_TRUE(std::ranges::equal(first.tensor(t), dense.tensor(t)));
        continue;
      }
      float smallest = INFINITY;
      for (const float value : first.tensor(t)) smallest = std::min(smallest, std::abs(value));
      const auto larger = std::ranges::count_if(
          dense.tensor(t), [&](float value) { return std::abs(value) >= smallest; });
      EXPECT_EQ(larger, first.topology->stored(t)) << method << ", tensor " << t;
    }
  }
}

TEST_F(PretrainedStartTest, SparseMethodsGoOnWithWhatASparseCheckpointStores) {
  v1::JobSpec spec = PretrainedJob("static");
  SetDouble(spec, "density", 0.25);
  models_.Write(spec.model());
  tensor::ModelState sparse = Make(spec)->Start().value().state.model;
  // A weight that is stored stays one, whatever its value.
  sparse.tensor(0)[3] = 0;
  models_.Write(sparse, spec.model());
  for (const char* method : {"static", "set", "rigl", "finetune"}) {
    const v1::JobSpec further = PretrainedJob(method);
    const tensor::ModelState first = Make(further)->Start().value().state.model;
    EXPECT_EQ(first.topology->hash(), sparse.topology->hash()) << method;
    EXPECT_EQ(first.values, sparse.values) << method;
    const auto counts = MethodRegistry::Builtin(models_.library()).StoredCounts(further).value();
    for (size_t t = 0; t < counts.size(); ++t) EXPECT_EQ(counts[t], sparse.topology->stored(t));
  }
  SetDouble(spec, "density", 0.5);
  EXPECT_EQ(base::ReasonOf(Make(spec)->Start().status()), "DENSITY_ABOVE_MODEL");
  models_.Write(spec.model());
  EXPECT_EQ(base::ReasonOf(Make(PretrainedJob("static"))->Start().status()), "DENSE_MODEL");
}

TEST_F(PretrainedStartTest, ALayerThatIsSparseThereAndDenseHereIsRefused) {
  v1::JobSpec spec = PretrainedJob("finetune");
  models_.Write(spec.model(), /*density=*/0.5);
  EXPECT_TRUE(Make(spec)->Start().ok());
  spec.mutable_model()->mutable_layers(2)->mutable_linear()->set_dense(true);
  const absl::Status status = Make(spec)->Start().status();
  EXPECT_EQ(base::ReasonOf(status), "SPARSE_CHECKPOINT");
  EXPECT_THAT(std::string(status.message()), HasSubstr("layers.2.weight"));
}

TEST_F(PretrainedStartTest, AnotherNetworkIsRefusedByItsFirstTensorThatDiffers) {
  v1::JobSpec spec = PretrainedJob("fedtiny");
  models_.Write(spec.model());
  spec.mutable_model()->mutable_layers(2)->mutable_linear()->set_units(21);
  const absl::Status status = Make(spec)->Start().status();
  EXPECT_EQ(base::ReasonOf(status), "OTHER_NETWORK");
  EXPECT_THAT(std::string(status.message()), HasSubstr("layers.2.weight (21 × 256)"));
  EXPECT_THAT(std::string(status.message()), HasSubstr("layers.2.weight (20 × 256)"));
}

TEST_F(PretrainedStartTest, ASparseCheckpointIsRefused) {
  const v1::JobSpec spec = PretrainedJob("fedtiny");
  models_.Write(spec.model(), /*density=*/0.5);
  EXPECT_EQ(base::ReasonOf(Make(spec)->Start().status()), "SPARSE_CHECKPOINT");
}

TEST_F(PretrainedStartTest, DamageIsFoundBeforeAWeightIsUsed) {
  const v1::JobSpec spec = PretrainedJob("fedtiny");
  models_.Write(spec.model());
  const std::string path = models_.path("first-7");
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(static_cast<std::streamoff>(std::filesystem::file_size(path)) - 2);
  file.put('x');
  file.close();
  EXPECT_EQ(base::ReasonOf(Make(spec)->Start().status()), "CHECKPOINT_CORRUPT");
}

TEST_F(PretrainedStartTest, TheModelIsReadInPiecesOfAtMostAMebibyte) {
  v1::JobSpec spec = PretrainedJob("fedtiny");
  spec.mutable_model()->mutable_layers(2)->mutable_linear()->set_units(3000);
  const tensor::ModelState dense = models_.Write(spec.model());
  for (const char* name : {"", "checkpoints/first-7"}) {
    spec.mutable_model()->set_pretrained(name);
    const auto source = OpenDenseSource(spec.model(), 1, models_.library().get()).value();
    std::vector<float> read;
    ASSERT_TRUE(source
                    ->Read(6,
                           [&](std::span<const float> piece) {
                             EXPECT_LE(piece.size_bytes(), size_t{1} << 20);
                             read.insert(read.end(), piece.begin(), piece.end());
                           })
                    .ok());
    ASSERT_EQ(read.size(), dense.tensor(6).size());
    EXPECT_EQ(std::ranges::equal(read, dense.tensor(6)), *name != '\0');
  }
}

TEST_F(PretrainedStartTest, OnlyMethodsThatSayItBeginWithATrainedModel) {
  const MethodRegistry registry = MethodRegistry::Builtin(models_.library());
  for (const MethodDeclaration& method : registry.all()) {
    EXPECT_EQ(method.prunes, config::IsPruningMethod(method.name)) << method.name;
    if (method.prunes) continue;
    std::vector<config::Violation> violations;
    registry.Validate(PretrainedJob(method.name), violations);
    EXPECT_EQ(violations.empty(), method.begins_trained) << method.name;
    if (method.begins_trained) continue;
    EXPECT_EQ(violations[0].field, "model.pretrained");
    EXPECT_THAT(violations[0].description, HasSubstr("fedtiny"));
  }
  v1::JobSpec spec = PretrainedJob("fedtiny");
  spec.mutable_model()->set_pretrained("stories");
  std::vector<config::Violation> violations;
  registry.Validate(spec, violations);
  ASSERT_EQ(violations.size(), 1U);
  EXPECT_THAT(violations[0].description, HasSubstr("found 'stories'"));
}

}  // namespace
}  // namespace espalier::server::methods
