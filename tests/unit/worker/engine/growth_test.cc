// Growth candidates against the full gradient that they are never allowed to form.
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/worker/engine/fixtures.h"
#include "tests/unit/worker/engine/reference_network.h"

namespace espalier::worker::engine {
namespace {

NetworkSpec MakeSpec() {
  return {.input_features = 70,
          .layers = {{.units = 90, .activation = Activation::kTanh},
                     {.units = 66, .activation = Activation::kTanh},
                     {.units = 5, .activation = Activation::kLinear, .dense = true}}};
}

// Gradient at all positions of all tensors, inactive ones included: the reference network with full
// topologies and zeros where the sparse one has no weight.
std::vector<std::vector<double>> FullGradients(const tensor::ModelTopology& sparse,
                                               const NetworkSpec& spec,
                                               std::span<const float> values, const Batch& batch) {
  const auto full = MakeModelTopology(spec, 1.0);
  std::vector<double> full_values(full->total_stored());
  for (size_t t = 0; t < sparse.num_tensors(); ++t) {
    for (int64_t k = 0; k < sparse.stored(t); ++k) {
      const int64_t position = sparse.is_sparse(t) ? sparse.topology(t).Positions()[k] : k;
      full_values[full->offset(t) + position] = values[sparse.offset(t) + k];
    }
  }
  ReferenceNetwork<double> reference(spec, full);
  const std::vector<double> gradients = reference.Gradients(full_values, batch);
  std::vector<std::vector<double>> result;
  for (size_t t = 0; t < sparse.num_tensors(); ++t) {
    const auto begin = gradients.begin() + full->offset(t);
    result.emplace_back(begin, begin + full->stored(t));
  }
  return result;
}

class GrowthTest : public testing::TestWithParam<BackendKind> {
 protected:
  GrowthTest() : topology_(MakeModelTopology(spec_, 0.1)) {
    network_ = Network::Create(spec_, {}, topology_, 20, 2, GetParam()).value();
    EXPECT_TRUE(network_->SetValues(RandomFloats(topology_->total_stored(), 3, 0.5)).ok());
  }

  OwnedBatch MakeBatch(int64_t size, uint64_t key) const {
    return {spec_.input_features, 5, size, network_->batch_stride(), key};
  }

  const NetworkSpec spec_ = MakeSpec();
  std::shared_ptr<const tensor::ModelTopology> topology_;
  std::unique_ptr<Network> network_;
};

TEST_P(GrowthTest, CandidatesAreTheLargestMeanGradientsOfInactivePositions) {
  const OwnedBatch first = MakeBatch(20, 1);
  const OwnedBatch second = MakeBatch(5, 2);
  const std::vector<int64_t> counts = {50, 0, 9, 0, 7, 0};
  const Batch batches[] = {first.batch, second.batch};
  const std::vector<ScoreList> lists = network_->GrowthCandidates(batches, counts);
  const auto a = FullGradients(*topology_, spec_, network_->values(), first.batch);
  const auto b = FullGradients(*topology_, spec_, network_->values(), second.batch);
  ASSERT_EQ(lists.size(), counts.size());
  EXPECT_TRUE(lists[4].positions.empty()) << "a dense tensor has nothing to grow";
  for (const size_t t : {0, 2}) {
    const std::vector<int64_t> active = topology_->topology(t).Positions();
    std::vector<double> magnitudes;
    const auto mean = [&](int64_t p) { return (20 * a[t][p] + 5 * b[t][p]) / 25; };
    for (int64_t p = 0; p < static_cast<int64_t>(a[t].size()); ++p) {
      if (!std::ranges::binary_search(active, p)) magnitudes.push_back(std::abs(mean(p)));
    }
    std::ranges::sort(magnitudes, std::greater{});
    ASSERT_EQ(static_cast<int64_t>(lists[t].positions.size()), counts[t]);
    EXPECT_TRUE(std::ranges::is_sorted(lists[t].positions));
    for (int64_t i = 0; i < counts[t]; ++i) {
      const int64_t position = lists[t].positions[i];
      EXPECT_FALSE(std::ranges::binary_search(active, position));
      EXPECT_NEAR(lists[t].values[i], mean(position), 1e-6);
      EXPECT_GT(std::abs(mean(position)), magnitudes[counts[t] - 1] - 1e-6);
    }
  }
}

TEST_P(GrowthTest, AsksForMoreThanThereAreGivesAllInactivePositions) {
  const OwnedBatch batch = MakeBatch(20, 1);
  const std::vector<int64_t> counts = {int64_t{1} << 40, 0, 0, 0, 0, 0};
  const auto lists = network_->GrowthCandidates(std::span(&batch.batch, 1), counts);
  EXPECT_EQ(static_cast<int64_t>(lists[0].positions.size()),
            topology_->topology(0).size() - topology_->topology(0).nnz());
}

TEST_P(GrowthTest, QueriesGiveWhatAnyPartOfThemAsksFor) {
  const OwnedBatch batch = MakeBatch(20, 1);
  const auto all = [&] {
    const std::vector<int64_t> counts = {int64_t{1} << 40, 0, 0, 0, 0, 0};
    return network_->GrowthCandidates(std::span(&batch.batch, 1), counts)[0];
  }();
  ASSERT_GT(all.positions.size(), 20u);
  std::vector<float> magnitudes;
  for (const float value : all.values) magnitudes.push_back(std::abs(value));
  std::ranges::sort(magnitudes, std::greater{});
  // Inactive ones, an active one and some that other parts of the query ask for as well.
  std::vector<int64_t> positions = all.positions;
  positions.resize(12);
  positions.push_back(topology_->topology(0).Positions()[0]);
  std::ranges::sort(positions);
  std::vector<GrowthQuery> queries(6);
  queries[0] = {.count = 3, .threshold = magnitudes[9], .positions = positions};
  const ScoreList list = network_->InactiveGradients(std::span(&batch.batch, 1), queries)[0];
  ScoreList expected;
  for (size_t i = 0; i < all.positions.size(); ++i) {
    if (i >= 12 && std::abs(all.values[i]) < magnitudes[9]) continue;
    expected.positions.push_back(all.positions[i]);
    expected.values.push_back(all.values[i]);
  }
  EXPECT_EQ(list.positions, expected.positions);
  EXPECT_EQ(list.values, expected.values);
}

TEST_P(GrowthTest, MeanGradientsOfStoredValuesComeWithTheCandidates) {
  const OwnedBatch first = MakeBatch(20, 1);
  const OwnedBatch second = MakeBatch(5, 2);
  const Batch batches[] = {first.batch, second.batch};
  const size_t values = network_->values().size();
  std::vector<float> a(values);
  std::vector<float> b(values);
  network_->Gradients(first.batch, a);
  network_->Gradients(second.batch, b);
  for (const std::vector<int64_t>& counts :
       {std::vector<int64_t>{50, 0, 9, 0, 0, 0}, std::vector<int64_t>(6)}) {
    std::vector<float> active(values, 1);
    const auto candidates = network_->GrowthCandidates(batches, counts, active);
    for (size_t i = 0; i < values; ++i) {
      ASSERT_FLOAT_EQ(active[i], (20 * a[i] + 5 * b[i]) / 25) << i;
    }
    const auto alone = network_->GrowthCandidates(batches, counts);
    for (size_t t = 0; t < counts.size(); ++t) {
      EXPECT_EQ(candidates[t].positions, alone[t].positions);
      EXPECT_EQ(candidates[t].values, alone[t].values);
    }
  }
}

TEST_P(GrowthTest, LeavesTheValuesAlone) {
  const OwnedBatch batch = MakeBatch(20, 1);
  const std::vector<float> before(network_->values().begin(), network_->values().end());
  network_->GrowthCandidates(std::span(&batch.batch, 1), std::vector<int64_t>(6, 3));
  EXPECT_TRUE(std::ranges::equal(network_->values(), before));
}

INSTANTIATE_TEST_SUITE_P(Backends, GrowthTest,
                         testing::Values(BackendKind::kReference, BackendKind::kOneDnn));

}  // namespace
}  // namespace espalier::worker::engine
