// What can be pruned can be trained: the network that trains a transformer computes what the
// language engine computes from the same checkpoint, for every architecture, and its gradients are
// those of finite differences.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/language/named_tensors.h"
#include "common/wire/model_spec/model_spec.h"
#include "tests/support/language_model.h"
#include "worker/engine/network.h"
#include "worker/language/language_engine.h"
#include "worker/language/network_spec.h"

namespace espalier::worker::language {
namespace {

using support::LanguageModel;

constexpr int64_t kSequences = 2;

struct Architecture {
  const char* name;
  std::string config;
};

// Every architecture, and every option of one that changes its layers.
std::vector<Architecture> Architectures() {
  const std::string llama =
      R"({"model_type":"llama","hidden_size":12,"intermediate_size":10,"num_hidden_layers":2,
          "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":11,
          "max_position_embeddings":8,)";
  const std::string opt =
      R"({"model_type":"opt","hidden_size":12,"num_hidden_layers":2,"num_attention_heads":2,
          "ffn_dim":20,"vocab_size":11,"max_position_embeddings":8,)";
  const std::string gpt2 =
      R"({"model_type":"gpt2","n_embd":12,"n_layer":2,"n_head":4,"vocab_size":11,"n_positions":8,)";
  return {
      {"LLaMA", llama + R"("head_dim":4,"tie_word_embeddings":false})"},
      {"TiedLlama", llama + R"("head_dim":4,"tie_word_embeddings":true})"},
      {"WideHeads", llama + R"("head_dim":6,"rope_theta":500.0})"},
      {"RopeOfTransformers5",
       llama + R"("head_dim":4,"rope_parameters":{"rope_type":"default","rope_theta":77.0}})"},
      {"LlamaWithBiases", llama + R"("head_dim":4,"attention_bias":true,"mlp_bias":true})"},
      {"Qwen2",
       R"({"model_type":"qwen2","hidden_size":16,"intermediate_size":10,"num_hidden_layers":2,
           "num_attention_heads":4,"num_key_value_heads":2,"vocab_size":11,
           "max_position_embeddings":8,"rope_theta":1000000.0,"sliding_window":4,
           "use_sliding_window":false,"tie_word_embeddings":true})"},
      {"Gpt2", gpt2 + R"("activation_function":"gelu_new"})"},
      {"Gpt2WithExactGelu", gpt2 + R"("activation_function":"gelu","n_inner":14})"},
      {"UntiedGpt2WithRelu", gpt2 + R"("activation_function":"relu","tie_word_embeddings":false})"},
      {"Opt", opt + R"("activation_function":"relu"})"},
      {"OptWithGelu", opt + R"("activation_function":"gelu"})"},
      {"OptWithoutBiases", opt + R"("activation_function":"relu","enable_bias":false})"},
  };
}

struct Setting {
  Architecture architecture;
  double density;
  int threads;
};

void PrintTo(const Setting& setting, std::ostream* out) { *out << setting.architecture.name; }

class TrainingEngineTest : public testing::TestWithParam<Setting> {
 protected:
  TrainingEngineTest() {
    model_ = support::RandomLanguageModel(GetParam().architecture.config, 3, GetParam().density);
    // With the file format on the way, so that names and orders of matrices are those of users.
    const std::string folder = testing::TempDir() + "/espalier_training_engine_" +
                               std::to_string(getpid()) + GetParam().architecture.name;
    EXPECT_TRUE(support::SaveLanguageModel(
                    model_, folder, {.format = ::espalier::language::CheckpointFormat::kSparse})
                    .ok());
    const auto reader = ::espalier::language::CheckpointReader::Open(folder).value();
    spec_.mutable_transformer()->set_config_json(model_.config.json);
    const auto layout = wire::LayoutOf(spec_).value();
    const ::espalier::language::NamedTensors tensors(*reader);
    std::vector<std::shared_ptr<const tensor::Topology>> topologies;
    for (const tensor::TensorSpec& tensor : *layout) {
      auto read = tensors.Read(tensor.name);
      EXPECT_TRUE(read.ok()) << read.status();
      topologies.push_back(read->topology);
      values_.insert(values_.end(), read->values.begin(), read->values.end());
    }
    topology_ = std::make_shared<const tensor::ModelTopology>(
        tensor::ModelTopology::Create(layout, topologies).value());
    std::filesystem::remove_all(folder);
  }

  std::unique_ptr<engine::Network> MakeNetwork(int64_t length, int threads) const {
    auto network =
        engine::Network::Create(NetworkSpecOf(model_.config, length), {}, topology_,
                                kSequences * length, threads, engine::BackendKind::kOneDnn);
    EXPECT_TRUE(network.ok()) << network.status();
    EXPECT_TRUE((*network)->SetValues(values_).ok());
    return *std::move(network);
  }

  // kSequences of that length, the tokens of the first `length` places of longer ones.
  static std::vector<std::vector<int32_t>> Sequences(int64_t length) {
    base::Rng rng(base::StreamKey(8, "tokens"));
    std::vector<std::vector<int32_t>> sequences(kSequences);
    for (auto& sequence : sequences) {
      for (int64_t i = 0; i < 8; ++i) sequence.push_back(static_cast<int32_t>(rng.Below(11)));
      sequence.resize(static_cast<size_t>(length));
    }
    return sequences;
  }

  struct Example {
    std::vector<float> features;
    std::vector<int32_t> labels;
    engine::Batch batch() const {
      return {features.data(), labels.data(), static_cast<int64_t>(labels.size()),
              static_cast<int64_t>(features.size())};
    }
  };
  static Example ExampleOf(const std::vector<std::vector<int32_t>>& sequences, int64_t stride,
                           const std::vector<int32_t>& labels) {
    Example example;
    for (const auto& sequence : sequences) {
      example.features.insert(example.features.end(), sequence.begin(), sequence.end());
    }
    example.features.resize(static_cast<size_t>(stride));
    example.labels = labels;
    return example;
  }

  // The model with other values, for the naive forward pass.
  LanguageModel WithValues(const std::vector<float>& values) const;

  LanguageModel model_;
  v1::ModelSpec spec_;
  std::shared_ptr<const tensor::ModelTopology> topology_;
  std::vector<float> values_;
};

LanguageModel TrainingEngineTest::WithValues(const std::vector<float>& values) const {
  LanguageModel model = model_;
  size_t tensor = 0;
  const auto take = [&](std::vector<float>& into) {
    const auto first = values.begin() + topology_->offset(tensor);
    into.assign(first, first + topology_->stored(tensor));
    ++tensor;
  };
  const bool norm_biases = !model.config.rms_norm();
  take(model.outer.embedding);
  if (!model.outer.positions.empty()) take(model.outer.positions);
  for (auto& block : model.blocks) {
    take(block.attention_norm);
    if (norm_biases) take(block.attention_norm_bias);
    bool attention = true;
    for (auto& linear : block.linears) {
      if (attention && ::espalier::language::IsFeedForward(linear.spec.role)) {
        attention = false;
        take(block.mlp_norm);
        if (norm_biases) take(block.mlp_norm_bias);
      }
      take(linear.values);
      if (linear.spec.bias) take(linear.bias);
    }
  }
  take(model.outer.final_norm);
  if (norm_biases) take(model.outer.final_norm_bias);
  if (!model.config.tied) take(model.outer.output);
  EXPECT_EQ(tensor, topology_->num_tensors());
  return model;
}

// For every token as the label: the negative log-probabilities are the logits but for a constant.
TEST_P(TrainingEngineTest, LogProbabilitiesAreThoseOfTheLanguageEngine) {
  const auto language = LanguageEngine::Create(model_.config, kSequences * 8, 1).value();
  std::vector<std::unique_ptr<LoadedBlock>> blocks;
  for (const auto& block : model_.blocks) blocks.push_back(language->Load(block).value());
  for (int64_t length = 1; length <= 8; ++length) {
    const auto network = MakeNetwork(length, GetParam().threads);
    const auto sequences = Sequences(length);
    HiddenState hidden = language->Embed(model_.outer, sequences).value();
    for (auto& block : blocks) language->Run(*block, hidden);
    for (int32_t label = 0; label < model_.config.vocabulary; ++label) {
      const std::vector<int32_t> labels(static_cast<size_t>(kSequences * length), label);
      const auto losses = language->Losses(model_.outer, hidden, labels).value();
      double expected = 0;
      for (const SequenceLoss& loss : losses) expected += loss.nll_sum;
      const Example example = ExampleOf(sequences, network->batch_stride(), labels);
      EXPECT_NEAR(network->Evaluate(example.batch()).loss_sum, expected, 1e-5 * expected)
          << "length " << length << ", label " << label;
    }
  }
}

TEST_P(TrainingEngineTest, GradientsAreThoseOfFiniteDifferences) {
  constexpr int64_t kLength = 5;
  const auto network = MakeNetwork(kLength, GetParam().threads);
  const auto sequences = Sequences(kLength);
  std::vector<int32_t> labels;
  for (int32_t i = 0; i < kSequences * kLength; ++i) labels.push_back(i * 3 % 11);
  const Example example = ExampleOf(sequences, network->batch_stride(), labels);
  std::vector<float> gradients(values_.size());
  network->Gradients(example.batch(), gradients);
  const auto loss_of = [&](const std::vector<float>& values) {
    const LanguageModel moved = WithValues(values);
    double sum = 0;
    size_t token = 0;
    for (const auto& sequence : sequences) {
      for (const auto& logits : support::ReferenceLogits(moved, sequence)) {
        sum += support::ReferenceLoss(logits, labels[token++]);
      }
    }
    return sum / static_cast<double>(labels.size());
  };
  // Of each tensor some values, the first and the last among them.
  for (size_t tensor = 0; tensor < topology_->num_tensors(); ++tensor) {
    const int64_t stored = topology_->stored(tensor);
    for (int64_t k = 0; k < stored; k += std::max<int64_t>(1, std::min(stored / 40, stored - 1))) {
      const auto i = static_cast<size_t>(topology_->offset(tensor) + k);
      constexpr float kStep = 1.0f / 32768;
      std::vector<float> moved = values_;
      moved[i] = values_[i] + kStep;
      const double high = loss_of(moved);
      const double width = moved[i];
      moved[i] = values_[i] - kStep;
      const double expected = (high - loss_of(moved)) / (width - moved[i]);
      EXPECT_NEAR(gradients[i], expected, 2e-5 + 1e-4 * std::abs(expected))
          << topology_->layout()[tensor].name << ", value " << k;
    }
  }
}

TEST_P(TrainingEngineTest, TrainingGivesTheSameBitsForAnyNumberOfThreads) {
  constexpr int64_t kLength = 8;
  std::vector<int32_t> labels;
  for (int32_t i = 0; i < kSequences * kLength; ++i) labels.push_back(i * 7 % 11);
  std::vector<std::vector<float>> trained;
  for (const int threads : {1, 3}) {
    const auto network = MakeNetwork(kLength, threads);
    const Example example = ExampleOf(Sequences(kLength), network->batch_stride(), labels);
    for (int step = 0; step < 3; ++step) network->Train(example.batch(), 0.1, 0);
    trained.emplace_back(network->values().begin(), network->values().end());
  }
  EXPECT_EQ(trained[0], trained[1]);
  EXPECT_NE(trained[0], values_);
}

TEST(NetworkSpecTest, MoreTokensThanLearnedPositionsAreRefused) {
  v1::ModelSpec spec;
  spec.mutable_transformer()->set_config_json(support::SmallConfig("gpt2"));
  const auto config = ::espalier::language::ParseTransformerConfig(support::SmallConfig("gpt2"));
  const auto layout = wire::LayoutOf(spec).value();
  const auto dense = std::make_shared<const tensor::ModelTopology>(
      tensor::ModelTopology::Create(
          layout, std::vector<std::shared_ptr<const tensor::Topology>>(layout->size()))
          .value());
  for (const int64_t context : {20, 21}) {
    const auto network = engine::Network::Create(NetworkSpecOf(*config, context), {}, dense,
                                                 context, 1, engine::BackendKind::kOneDnn);
    EXPECT_EQ(network.ok(), context == 20) << network.status();
    if (network.ok()) continue;
    EXPECT_EQ(base::ReasonOf(network.status()), "NETWORK_SPEC");
  }
}

std::vector<Setting> Settings() {
  std::vector<Setting> settings;
  for (const Architecture& architecture : Architectures()) {
    settings.push_back({architecture, 1.0, 2});
    settings.push_back({architecture, 0.5, 1});
  }
  return settings;
}

INSTANTIATE_TEST_SUITE_P(Architectures, TrainingEngineTest, testing::ValuesIn(Settings()),
                         [](const auto& info) {
                           return info.param.architecture.name +
                                  std::string(info.param.density < 1 ? "Sparse" : "");
                         });

}  // namespace
}  // namespace espalier::worker::language
