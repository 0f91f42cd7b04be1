#include "common/wire/model_spec/model_spec.h"

#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/message_differencer.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/named_models.h"
#include "common/wire/model_spec/shapes.h"
#include "common/wire/model_spec/transformer.h"

namespace espalier::wire {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::ModelSpec Parse(const std::string& text) {
  v1::ModelSpec spec;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec));
  return spec;
}

std::vector<std::string> Describe(const v1::ModelSpec& spec) {
  std::vector<std::string> lines;
  const std::vector<ModelTensor> tensors = TensorsOf(spec).value();
  for (const ModelTensor& tensor : tensors) {
    std::string line = tensor.spec.name;
    for (const int64_t dimension : tensor.spec.shape) line += " " + std::to_string(dimension);
    if (tensor.spec.sparsifiable) line += " sparsifiable";
    if (tensor.spec.buffer) line += " buffer";
    lines.push_back(line);
  }
  return lines;
}

int64_t ParameterCount(const std::string& text) {
  int64_t sum = 0;
  const std::vector<ModelTensor> tensors = TensorsOf(Parse(text)).value();
  for (const ModelTensor& tensor : tensors) {
    if (!tensor.spec.buffer) sum += tensor.spec.size();
  }
  return sum;
}

TEST(TensorsOfTest, NamesAndShapesFollowTheLayers) {
  const v1::ModelSpec spec = Parse(R"pb(
    input_image { channels: 3 height: 9 width: 8 }
    layers { conv2d { channels: 4 kernel: 5 stride: 2 dense: true } }
    layers { batch_norm {} }
    layers {
      residual {
        body { conv2d { channels: 6 no_bias: true } }
        shortcut { conv2d { channels: 6 kernel: 1 no_bias: true } }
        shortcut { batch_norm {} }
      }
    }
    layers { max_pool { kernel: 2 } }
    layers { flatten {} }
    layers { linear { units: 10 } })pb");
  EXPECT_THAT(
      Describe(spec),
      ElementsAre("layers.0.weight 4 3 5 5", "layers.0.bias 4", "layers.1.weight 4",
                  "layers.1.bias 4", "layers.1.running_mean 4 buffer",
                  "layers.1.running_var 4 buffer", "layers.2.body.0.weight 6 4 3 3 sparsifiable",
                  "layers.2.shortcut.0.weight 6 4 1 1 sparsifiable", "layers.2.shortcut.1.weight 6",
                  "layers.2.shortcut.1.bias 6", "layers.2.shortcut.1.running_mean 6 buffer",
                  "layers.2.shortcut.1.running_var 6 buffer",
                  // 9 × 8 → 5 × 4 by the stride → 2 × 2 by the pool
                  "layers.5.weight 10 24 sparsifiable", "layers.5.bias 10"));
  const auto layout = LayoutOf(spec).value();
  EXPECT_EQ((*layout)[0].rows, 4);
  EXPECT_EQ((*layout)[0].cols, 75);
}

TEST(TensorsOfTest, LayersThatDoNotFitAreRefusedByName) {
  const struct {
    const char* layers;
    const char* expected;
  } kCases[] = {
      {"layers { linear { units: 5 } } layers { conv2d { channels: 2 } }",
       "layers.1: expected an image"},
      {"layers { max_pool { kernel: 9 } }", "layers.0: a window of 9 × 9"},
      {"layers { residual { body { conv2d { channels: 2 } } } }", "body gives 2 × 8 × 8"},
      {"layers { }", "UNKNOWN_LAYER"},
  };
  for (const auto& [layers, expected] : kCases) {
    const auto tensors =
        TensorsOf(Parse("input_image { channels: 1 height: 8 width: 8 } " + std::string(layers)));
    EXPECT_THAT(base::ReasonOf(tensors.status()) + " " + base::MessageOf(tensors.status()),
                HasSubstr(expected));
  }
}

TEST(LayerKindsTest, EveryKindOfTheApiHasOneDescriptor) {
  std::vector<std::string> fields;
  const auto* kinds = v1::Layer::descriptor()->FindOneofByName("kind");
  for (int i = 0; i < kinds->field_count(); ++i) fields.push_back(kinds->field(i)->name());
  std::vector<std::string> words;
  for (const LayerDescriptor* kind : LayerKinds()) words.push_back(kind->word());
  EXPECT_THAT(words, testing::UnorderedElementsAreArray(fields));
}

TEST(LayerKindsTest, OptionsForTheEngineHaveTheDefaultsFilledIn) {
  const v1::ModelSpec spec = Parse(R"pb(
    layers { conv2d { channels: 4 kernel: 5 no_bias: true activation: ACTIVATION_RELU } }
    layers { residual { body { max_pool {} } } }
    layers {})pb");
  const std::vector<tensor::LayerSpec> layers = DescribeLayers(spec.layers());
  ASSERT_EQ(layers.size(), 3);
  EXPECT_EQ(layers[0].kind, tensor::LayerKind::kConv);
  EXPECT_EQ(layers[0].units, 4);
  EXPECT_EQ(layers[0].padding, 2);
  EXPECT_EQ(layers[0].activation, tensor::Activation::kRelu);
  EXPECT_FALSE(layers[0].bias);
  EXPECT_EQ(layers[1].activation, tensor::Activation::kLinear);
  ASSERT_EQ(layers[1].body.size(), 1);
  EXPECT_EQ(layers[1].body[0].kind, tensor::LayerKind::kMaxPool);
  EXPECT_EQ(layers[1].body[0].stride, 2);
  EXPECT_EQ(layers[2].kind.word(), "");
}

// Counts of trained parameters as published, or computed by hand from the published shapes.
TEST(NamedModelsTest, HaveTheParametersOfTheirPapers) {
  EXPECT_EQ(ParameterCount("name: 'lenet5'"), 61'706);
  // 269,722 with parameter-free shortcuts; ours have two of 1 × 1 with a batch norm.
  EXPECT_EQ(ParameterCount("name: 'resnet20'"), 269'722 + 16 * 32 + 64 + 32 * 64 + 128);
  EXPECT_EQ(ParameterCount("name: 'resnet18'"), 11'173'962);
  // Convolutions 9,217,728 (no bias), batch norms 5,504, linear 5,130.
  EXPECT_EQ(ParameterCount("name: 'vgg11'"), 9'217'728 + 5'504 + 5'130);
}

TEST(NamedModelsTest, WidthClassesAndBatchNormChangeTheLayers) {
  const v1::ModelSpec spec =
      ExplicitModel(Parse("name: 'vgg11' parameters { width: 0.25 classes: 7 batch_norm: false } "
                          "input_image { channels: 1 height: 40 width: 40 }"));
  EXPECT_EQ(spec.layers(0).conv2d().channels(), 16);
  EXPECT_FALSE(spec.layers(0).conv2d().no_bias());
  EXPECT_TRUE(spec.layers(1).has_max_pool());
  EXPECT_EQ(spec.layers(spec.layers_size() - 1).linear().units(), 7);
  EXPECT_EQ(spec.input_features(), 1600);
  EXPECT_TRUE(spec.name().empty());
}

TEST(NamedModelsTest, StandardisedWeightsTakeThePlaceOfBatchNorms) {
  for (const char* name : {"resnet8", "vgg11", "lenet5"}) {
    const std::string text = std::string("name: '") + name + "' parameters { normalization: ";
    const v1::ModelSpec spec = ExplicitModel(Parse(text + "NORMALIZATION_WEIGHT }"));
    const auto tensors = TensorsOf(spec).value();
    int scales = 0;
    for (const ModelTensor& tensor : tensors) {
      EXPECT_FALSE(tensor.spec.buffer) << tensor.spec.name;
      scales += tensor.role == TensorRole::kScale;
    }
    EXPECT_GE(scales, 2) << name;
    // Scale and bias of a convolution are as many as scale and shift of a batch norm.
    EXPECT_EQ(ParameterCount(text + "NORMALIZATION_WEIGHT }"),
              ParameterCount(text + "NORMALIZATION_BATCH }"));
  }
}

TEST(TensorsOfTest, ScalesStandBetweenWeightsAndBias) {
  const v1::ModelSpec spec = Parse(
      "input_image { channels: 1 height: 8 width: 8 } "
      "layers { conv2d { channels: 4 standardize: true activation: ACTIVATION_RELU } } "
      "layers { linear { units: 10 } }");
  EXPECT_THAT(
      Describe(spec),
      ElementsAre("layers.0.weight 4 1 3 3 sparsifiable", "layers.0.scale 4", "layers.0.bias 4",
                  "layers.1.weight 10 256 sparsifiable", "layers.1.bias 10"));
  EXPECT_NEAR(TensorsOf(spec).value()[1].gain, 1.7129, 1e-4);
}

constexpr char kTransformer[] =
    "transformer { vocabulary: 256 hidden: 24 blocks: 2 heads: 4 kv_heads: 2 }";

TEST(TransformerTest, TensorsHaveTheNamesAndShapesOfLlama) {
  const auto tensors = TensorsOf(Parse(kTransformer)).value();
  ASSERT_EQ(tensors.size(), 2u + 2 * 9);
  EXPECT_EQ(tensors[0].spec.name, "model.embed_tokens.weight");
  EXPECT_FALSE(tensors[0].spec.sparsifiable);
  EXPECT_EQ(tensors[1].role, TensorRole::kScale);
  EXPECT_EQ(tensors[3].spec.name, "model.layers.0.self_attn.k_proj.weight");
  EXPECT_EQ(tensors[3].spec.shape, (std::vector<int64_t>{12, 24}));
  EXPECT_TRUE(tensors[3].spec.sparsifiable);
  // 8/3 · 24 = 64.
  EXPECT_EQ(tensors[18].spec.name, "model.layers.1.mlp.down_proj.weight");
  EXPECT_EQ(tensors[18].spec.shape, (std::vector<int64_t>{24, 64}));
  EXPECT_EQ(tensors.back().spec.name, "model.norm.weight");
  EXPECT_EQ(ClassesOf(Parse(kTransformer)), 256);
}

TEST(TransformerTest, UntiedOutputsAndDenseAttention) {
  v1::ModelSpec spec = Parse(kTransformer);
  spec.mutable_transformer()->set_untied(true);
  spec.mutable_transformer()->set_dense_attention(true);
  const auto tensors = TensorsOf(spec).value();
  EXPECT_EQ(tensors.back().spec.name, "lm_head.weight");
  EXPECT_FALSE(tensors[3].spec.sparsifiable);
  EXPECT_TRUE(tensors[7].spec.sparsifiable);
}

// A spec may come from a file, and no validator may have seen it.
TEST(TensorsOfTest, NumbersBeyondAllRangesAreRefusedBeforeTensorsAreListed) {
  for (const char* text : {"transformer { vocabulary: 256 hidden: 24 blocks: 2000000000 heads: 4 }",
                           "recommender { users: 5 items: 7 autoint { layers: 2147483647 } }",
                           "input_features: 9223372036854775807 layers { linear { units: 10 } }",
                           "input_image { channels: 4611686018427387904 height: 4 width: 4 } "
                           "layers { flatten {} } layers { linear { units: 10 } }",
                           "input_image { channels: 1 height: 1 width: 1 } "
                           "layers { conv2d { channels: 1 kernel: 1 stride: -1 } }",
                           "input_image { channels: 1 height: 8 width: 8 } "
                           "layers { max_pool { kernel: -2147483648 } }",
                           "input_image { channels: 1 height: 8 width: 8 } "
                           "layers { conv2d { channels: -5 padding: -2147483648 } }"}) {
    EXPECT_FALSE(TensorsOf(Parse(text)).ok()) << text;
  }
}

TEST(NamedModelsTest, ExpansionIsIdempotentAndLeavesUnknownNamesAlone) {
  const v1::ModelSpec once = ExplicitModel(Parse("name: 'resnet8'"));
  EXPECT_EQ(once.input_features(), 3072);
  EXPECT_TRUE(google::protobuf::util::MessageDifferencer::Equals(once, ExplicitModel(once)));
  for (const char* text : {"name: 'resnet9'", "name: 'resnet8' parameters { width: nan }",
                           "name: 'resnet8' parameters { width: 1e9 }"}) {
    EXPECT_TRUE(ExplicitModel(Parse(text)).layers().empty()) << text;
  }
}

}  // namespace
}  // namespace espalier::wire
