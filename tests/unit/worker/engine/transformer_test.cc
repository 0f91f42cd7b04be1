// Training of a transformer: gradients against finite differences of a naive forward pass in double
// precision, sparse and dense.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/tensor/model_layout.h"
#include "tests/support/language_model.h"
#include "worker/engine/network.h"

namespace espalier::worker::engine {
namespace {

constexpr int64_t kVocabulary = 11, kHidden = 8, kInner = 12, kHeads = 4, kKvHeads = 2, kBlocks = 2;
constexpr int64_t kSequence = 5, kSequences = 3;

NetworkSpec Spec(bool tied) {
  const LayerSpec norm = {.kind = LayerKind::kRmsNorm, .activation = Activation::kLinear};
  const LayerSpec down = {.units = kHidden, .activation = Activation::kLinear, .bias = false};
  const LayerSpec attention = {.kind = LayerKind::kAttention,
                               .units = kHidden / kHeads,
                               .activation = Activation::kLinear,
                               .bias = false,
                               .heads = kHeads,
                               .kv_heads = kKvHeads};
  const LayerSpec gated = {.kind = LayerKind::kSwiGlu,
                           .units = kInner,
                           .activation = Activation::kLinear,
                           .bias = false};
  NetworkSpec spec;
  spec.input_features = 1;
  spec.sequence = kSequence;
  spec.layers.push_back({.kind = LayerKind::kEmbedding,
                         .units = kHidden,
                         .activation = Activation::kLinear,
                         .vocabulary = kVocabulary});
  for (int64_t b = 0; b < kBlocks; ++b) {
    spec.layers.push_back({.kind = LayerKind::kResidual,
                           .activation = Activation::kLinear,
                           .body = {norm, attention, down}});
    spec.layers.push_back({.kind = LayerKind::kResidual,
                           .activation = Activation::kLinear,
                           .body = {norm, gated, down}});
  }
  spec.layers.push_back(norm);
  if (tied) {
    spec.layers.push_back({.kind = LayerKind::kTiedOutput, .activation = Activation::kLinear});
  } else {
    spec.layers.push_back({.units = kVocabulary, .activation = Activation::kLinear, .bias = false});
  }
  return spec;
}

// The tensors in the order of the layers; `density` < 1 makes the projections sparse.
std::shared_ptr<const tensor::ModelTopology> Topology(bool tied, double density) {
  tensor::ModelLayout layout;
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  const auto add = [&](std::vector<int64_t> shape, bool sparse) {
    layout.push_back(
        tensor::CheckedTensor("t" + std::to_string(layout.size()), std::move(shape)).value());
    layout.back().sparsifiable = sparse;
    const tensor::TensorSpec& spec = layout.back();
    topologies.push_back(nullptr);
    if (!sparse || density >= 1) return;
    base::Rng rng(base::StreamKey(5, "topology", {layout.size()}));
    std::vector<int64_t> positions;
    for (int64_t p = 0; p < spec.size(); ++p) {
      if (rng.Uniform() < density) positions.push_back(p);
    }
    topologies.back() = std::make_shared<const tensor::Topology>(
        tensor::Topology::FromPositions(spec.rows, spec.cols, positions).value());
  };
  const int64_t kv = kHidden / kHeads * kKvHeads;
  add({kVocabulary, kHidden}, false);
  for (int64_t b = 0; b < kBlocks; ++b) {
    add({kHidden}, false);
    add({kHidden, kHidden}, true);
    add({kv, kHidden}, true);
    add({kv, kHidden}, true);
    add({kHidden, kHidden}, true);
    add({kHidden}, false);
    add({kInner, kHidden}, true);
    add({kInner, kHidden}, true);
    add({kHidden, kInner}, true);
  }
  add({kHidden}, false);
  if (!tied) add({kVocabulary, kHidden}, false);
  return std::make_shared<const tensor::ModelTopology>(
      tensor::ModelTopology::Create(std::make_shared<const tensor::ModelLayout>(std::move(layout)),
                                    std::move(topologies))
          .value());
}

// The same weights for the naive forward pass.
support::LanguageModel ToReference(const tensor::ModelTopology& topology, bool tied,
                                   std::span<const float> values) {
  support::LanguageModel model;
  model.config = language::ParseTransformerConfig(
                     R"({"model_type":"llama","hidden_size":8,"intermediate_size":12,
                         "num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,
                         "vocab_size":11,"max_position_embeddings":5,"rms_norm_eps":1e-5,
                         "tie_word_embeddings":)" +
                     std::string(tied ? "true}" : "false}"))
                     .value();
  size_t tensor = 0;
  const auto take = [&] {
    const auto part = values.subspan(topology.offset(tensor), topology.stored(tensor));
    ++tensor;
    return std::vector<float>(part.begin(), part.end());
  };
  model.outer.embedding = take();
  const auto specs = language::BlockLinears(model.config);
  for (int64_t b = 0; b < kBlocks; ++b) {
    language::BlockWeights& block = model.blocks.emplace_back();
    block.attention_norm = take();
    for (size_t i = 0; i < specs.size(); ++i) {
      if (i == 4) block.mlp_norm = take();
      language::LinearWeights& linear = block.linears.emplace_back();
      linear.spec = specs[i];
      linear.topology = topology.shared_topology(tensor);
      linear.values = take();
    }
  }
  model.outer.final_norm = take();
  if (!tied) model.outer.output = take();
  return model;
}

struct Example {
  std::vector<float> features;
  std::vector<int32_t> labels;
};

Example RandomExample(int64_t stride, int64_t sequences, uint64_t seed) {
  Example example;
  base::Rng rng(base::StreamKey(seed, "tokens"));
  example.features.assign(static_cast<size_t>(stride), 0);
  for (int64_t c = 0; c < sequences * kSequence; ++c) {
    example.features[static_cast<size_t>(c)] = static_cast<float>(rng.Below(kVocabulary));
    example.labels.push_back(static_cast<int32_t>(rng.Below(kVocabulary)));
  }
  return example;
}

// Σ over tokens of the loss.
double ReferenceLossSum(const support::LanguageModel& model, const Example& example) {
  double sum = 0;
  const auto tokens = static_cast<int64_t>(example.labels.size());
  for (int64_t begin = 0; begin < tokens; begin += kSequence) {
    const std::vector<int32_t> inputs(example.features.begin() + begin,
                                      example.features.begin() + begin + kSequence);
    const auto logits = support::ReferenceLogits(model, inputs);
    for (int64_t i = 0; i < kSequence; ++i) {
      sum += support::ReferenceLoss(logits[static_cast<size_t>(i)],
                                    example.labels[static_cast<size_t>(begin + i)]);
    }
  }
  return sum;
}

std::vector<float> RandomValues(const tensor::ModelTopology& topology) {
  base::Rng rng(base::StreamKey(3, "values"));
  std::vector<float> values;
  for (size_t tensor = 0; tensor < topology.num_tensors(); ++tensor) {
    const bool norm = topology.layout()[tensor].shape.size() == 1;
    for (int64_t i = 0; i < topology.stored(tensor); ++i) {
      values.push_back(static_cast<float>((norm ? 1.0 : 0.0) + 0.4 * rng.Normal()));
    }
  }
  return values;
}

struct Setting {
  bool tied;
  double density;
  BackendKind backend;
  int threads;
};

class TransformerTest : public testing::TestWithParam<Setting> {
 protected:
  TransformerTest()
      : topology_(Topology(GetParam().tied, GetParam().density)),
        network_(Network::Create(Spec(GetParam().tied), {}, topology_, kSequences * kSequence,
                                 GetParam().threads, GetParam().backend)
                     .value()),
        values_(RandomValues(*topology_)),
        example_(RandomExample(network_->batch_stride(), kSequences, 9)) {
    EXPECT_TRUE(network_->SetValues(values_).ok());
  }

  Batch BatchOf(const Example& example) const {
    return {example.features.data(), example.labels.data(),
            static_cast<int64_t>(example.labels.size()), network_->batch_stride()};
  }

  std::shared_ptr<const tensor::ModelTopology> topology_;
  std::unique_ptr<Network> network_;
  std::vector<float> values_;
  Example example_;
};

TEST_P(TransformerTest, LossIsThatOfTheNaiveForwardPass) {
  const BatchResult result = network_->Evaluate(BatchOf(example_));
  EXPECT_NEAR(result.loss_sum,
              ReferenceLossSum(ToReference(*topology_, GetParam().tied, values_), example_), 1e-4);
  // Fewer sequences than before: what is left of the others does not matter.
  const Example brief = RandomExample(network_->batch_stride(), 1, 10);
  EXPECT_NEAR(network_->Evaluate(BatchOf(brief)).loss_sum,
              ReferenceLossSum(ToReference(*topology_, GetParam().tied, values_), brief), 1e-4);
}

TEST_P(TransformerTest, GradientsAreThoseOfFiniteDifferences) {
  network_->Evaluate(BatchOf(RandomExample(network_->batch_stride(), kSequences, 11)));
  for (const int64_t sequences : {kSequences, int64_t{2}}) {
    const Example example = RandomExample(network_->batch_stride(), sequences, 12);
    std::vector<float> gradients(values_.size());
    network_->Gradients(BatchOf(example), gradients);
    const auto tokens = static_cast<double>(example.labels.size());
    for (size_t i = 0; i < values_.size(); ++i) {
      constexpr float kStep = 1.0f / 32768;
      std::vector<float> moved = values_;
      moved[i] = values_[i] + kStep;
      const double high =
          ReferenceLossSum(ToReference(*topology_, GetParam().tied, moved), example);
      const double width = moved[i];
      moved[i] = values_[i] - kStep;
      const double low = ReferenceLossSum(ToReference(*topology_, GetParam().tied, moved), example);
      const double expected = (high - low) / (width - moved[i]) / tokens;
      ASSERT_NEAR(gradients[i], expected, 2e-5 + 1e-4 * std::abs(expected)) << i;
    }
  }
}

TEST_P(TransformerTest, TrainingLowersTheLoss) {
  const double before = network_->Evaluate(BatchOf(example_)).loss_sum;
  for (int step = 0; step < 60; ++step) network_->Train(BatchOf(example_), 0.1, 0);
  EXPECT_LT(network_->Evaluate(BatchOf(example_)).loss_sum, 0.5 * before);
}

TEST_P(TransformerTest, GrowthCandidatesAreTheLargestGradientsOfInactiveWeights) {
  std::vector<int64_t> counts(topology_->num_tensors(), 0);
  for (size_t t = 0; t < counts.size(); ++t) counts[t] = topology_->is_sparse(t) ? 3 : 0;
  const Batch batch = BatchOf(example_);
  const auto candidates = network_->GrowthCandidates(std::span(&batch, 1), counts);
  // The same weights as a dense network, with zeros where nothing is stored.
  const auto full = Topology(GetParam().tied, 1);
  std::vector<float> dense(static_cast<size_t>(full->total_stored()), 0.0f);
  for (size_t t = 0; t < counts.size(); ++t) {
    for (int64_t k = 0; k < topology_->stored(t); ++k) {
      const int64_t position = topology_->is_sparse(t) ? topology_->topology(t).Positions()[k] : k;
      dense[full->offset(t) + position] = values_[topology_->offset(t) + k];
    }
  }
  auto network = Network::Create(Spec(GetParam().tied), {}, full, kSequences * kSequence, 1,
                                 BackendKind::kReference)
                     .value();
  ASSERT_TRUE(network->SetValues(dense).ok());
  std::vector<float> gradients(dense.size());
  network->Gradients(batch, gradients);
  for (size_t t = 0; t < counts.size(); ++t) {
    if (!topology_->is_sparse(t)) {
      EXPECT_TRUE(candidates[t].positions.empty());
      continue;
    }
    const auto active = topology_->topology(t).Positions();
    std::vector<float> sizes;
    for (int64_t p = 0; p < full->stored(t); ++p) {
      if (!std::ranges::binary_search(active, p)) {
        sizes.push_back(std::abs(gradients[full->offset(t) + p]));
      }
    }
    std::ranges::sort(sizes, std::greater<>());
    ASSERT_EQ(candidates[t].values.size(), 3u);
    std::vector<float> found;
    for (size_t i = 0; i < 3; ++i) {
      found.push_back(std::abs(candidates[t].values[i]));
      EXPECT_NEAR(candidates[t].values[i], gradients[full->offset(t) + candidates[t].positions[i]],
                  1e-5);
    }
    std::ranges::sort(found, std::greater<>());
    for (size_t i = 0; i < 3; ++i) EXPECT_NEAR(found[i], sizes[i], 1e-5);
  }
}

INSTANTIATE_TEST_SUITE_P(Settings, TransformerTest,
                         testing::Values(Setting{true, 1, BackendKind::kReference, 1},
                                         Setting{false, 0.5, BackendKind::kReference, 1},
                                         Setting{true, 0.4, BackendKind::kOneDnn, 2},
                                         Setting{false, 1, BackendKind::kOneDnn, 2}));

TEST(TransformerSpecTest, LayersThatDoNotFitAreRefused) {
  const auto reason = [](const NetworkSpec& spec, int64_t max_batch = 10) {
    return base::ReasonOf(
        Network::Create(spec, {}, Topology(true, 1), max_batch, 1, BackendKind::kReference)
            .status());
  };
  EXPECT_EQ(reason(Spec(true)), "");
  EXPECT_EQ(reason(Spec(true), 11), "NETWORK_SPEC");
  EXPECT_EQ(reason(Spec(false)), "SHAPE_MISMATCH");
  NetworkSpec spec = Spec(true);
  spec.layers[1].body[1].kv_heads = 3;
  EXPECT_EQ(reason(spec), "NETWORK_SPEC");
  spec = Spec(true);
  spec.layers[1].body[1].units = 3;
  EXPECT_EQ(reason(spec), "NETWORK_SPEC");
  spec = Spec(true);
  spec.layers[0].units = 9;
  EXPECT_EQ(reason(spec), "SHAPE_MISMATCH");
  spec = Spec(true);
  spec.layers.erase(spec.layers.begin());
  EXPECT_EQ(reason(spec), "SHAPE_MISMATCH");
}

}  // namespace
}  // namespace espalier::worker::engine
