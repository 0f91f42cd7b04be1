// Small data sets and models for the tests of recommenders.
#pragma once

#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/sparsity/random_topology.h"
#include "common/wire/model_spec/recommender_layout.h"
#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

inline constexpr int64_t kUsers = 70;
inline constexpr int64_t kItems = 90;

inline v1::RecommenderSpec ParseSpec(const std::string& text) {
  v1::RecommenderSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return wire::ExplicitRecommender(spec);
}

inline v1::RecommenderSpec SmallSpec(const std::string& kind) {
  return ParseSpec("users: " + std::to_string(kUsers) + " items: " + std::to_string(kItems) + " " +
                   kind);
}

// Every user but the first has 1 to 12 items.
inline std::shared_ptr<const Interactions> SmallInteractions(uint64_t seed = 3) {
  std::vector<int64_t> offsets = {0};
  std::vector<int32_t> columns;
  for (int64_t user = 0; user < kUsers; ++user) {
    const int64_t count = user == 0 ? 0 : 1 + user % 12;
    for (const int64_t item : sparsity::DrawPositions(
             base::StreamKey(seed, "items", {static_cast<uint64_t>(user)}), count, kItems)) {
      columns.push_back(static_cast<int32_t>(item));
    }
    offsets.push_back(static_cast<int64_t>(columns.size()));
  }
  return std::make_shared<const Interactions>(
      Interactions::Create(kItems, std::move(offsets), std::move(columns)).value());
}

// 0 to 3 values for each user, or item, in each field of an AutoInt model.
inline std::vector<std::shared_ptr<const Interactions>> SmallFields(
    const v1::RecommenderSpec& spec) {
  std::vector<std::shared_ptr<const Interactions>> fields;
  for (const v1::AutoIntField& field : spec.autoint().fields()) {
    std::vector<int64_t> offsets = {0};
    std::vector<int32_t> values;
    for (int64_t row = 0; row < (field.of_items() ? kItems : kUsers); ++row) {
      for (const int64_t value : sparsity::DrawPositions(
               base::StreamKey(fields.size(), "field", {static_cast<uint64_t>(row)}), row % 4,
               field.values())) {
        values.push_back(static_cast<int32_t>(value));
      }
      offsets.push_back(static_cast<int64_t>(values.size()));
    }
    fields.push_back(std::make_shared<const Interactions>(
        Interactions::Create(field.values(), std::move(offsets), std::move(values)).value()));
  }
  return fields;
}

// Sparsifiable tensors at `density`; at 1 they are dense.
inline std::shared_ptr<const tensor::ModelTopology> MakeTopology(const v1::RecommenderSpec& spec,
                                                                 double density,
                                                                 uint64_t seed = 5) {
  auto layout = std::make_shared<tensor::ModelLayout>();
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  const auto tensors = wire::RecommenderTensors(spec).value();
  for (const wire::ModelTensor& tensor : tensors) {
    layout->push_back(tensor.spec);
    topologies.push_back(nullptr);
    if (!tensor.spec.sparsifiable || density >= 1) continue;
    const auto count = static_cast<int64_t>(density * static_cast<double>(tensor.spec.size()));
    topologies.back() = std::make_shared<const tensor::Topology>(
        sparsity::RandomTopology(tensor.spec.rows, tensor.spec.cols, count,
                                 seed + topologies.size())
            .value());
  }
  return std::make_shared<const tensor::ModelTopology>(
      tensor::ModelTopology::Create(std::move(layout), std::move(topologies)).value());
}

inline std::vector<float> RandomValues(int64_t size, uint64_t seed = 11, double scale = 0.4) {
  base::Rng rng(seed);
  std::vector<float> values(size);
  for (float& value : values) value = static_cast<float>(scale * rng.Normal());
  return values;
}

inline engine::OptimizerSpec AdamSpec() {
  engine::OptimizerSpec optimizer;
  optimizer.kind = engine::OptimizerSpec::Kind::kAdam;
  return optimizer;
}

inline std::unique_ptr<RecommenderModel> MakeModel(
    const v1::RecommenderSpec& spec, std::shared_ptr<const tensor::ModelTopology> topology,
    std::shared_ptr<const Interactions> train, int threads = 1,
    const engine::OptimizerSpec& optimizer = AdamSpec()) {
  auto model = RecommenderModel::Create(spec, optimizer, topology, std::move(train), 64, threads,
                                        SmallFields(spec));
  EXPECT_TRUE(model.ok()) << model.status();
  EXPECT_TRUE((*model)->SetValues(RandomValues(topology->total_stored())).ok());
  return *std::move(model);
}

// The model's tensors with zeros where nothing is stored, row-major.
inline std::vector<std::vector<double>> DenseTensors(const tensor::ModelTopology& topology,
                                                     std::span<const float> values) {
  std::vector<std::vector<double>> dense;
  for (size_t t = 0; t < topology.num_tensors(); ++t) {
    const auto of_tensor = values.subspan(topology.offset(t), topology.stored(t));
    if (!topology.is_sparse(t)) {
      dense.emplace_back(of_tensor.begin(), of_tensor.end());
      continue;
    }
    dense.emplace_back(topology.layout()[t].size());
    const auto positions = topology.topology(t).Positions();
    for (size_t k = 0; k < positions.size(); ++k) dense.back()[positions[k]] = of_tensor[k];
  }
  return dense;
}

}  // namespace espalier::worker::recommender
