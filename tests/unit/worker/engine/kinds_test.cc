// The two files of each kind of layer fit together; and the channels that descriptors tell are
// those that the engine computes.
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "common/wire/model_spec/channel_groups.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "tests/unit/worker/engine/fixtures.h"
#include "worker/engine/engine_kind.h"

namespace espalier::worker::engine {
namespace {

using Axis = wire::ChannelMember::Axis;

TEST(LayerKindsTest, EveryKindOfAJobHasItsFileInTheEngine) {
  for (const wire::LayerDescriptor* kind : wire::LayerKinds()) {
    EXPECT_TRUE(EngineKindOf(LayerKind(kind->word())).ok()) << kind->word();
  }
}

// A dense network whose batch norms have statistics.
class ChannelGroupsTest : public testing::Test {
 protected:
  explicit ChannelGroupsTest(const std::string& text) {
    EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &spec_));
    groups_ = wire::ChannelGroups(spec_).value();
    layout_ = *wire::LayoutOf(spec_).value();
    const MapShape image = {spec_.input_image().channels(), spec_.input_image().height(),
                            spec_.input_image().width()};
    network_ = {
        .input_features = spec_.has_input_image() ? image.features() : spec_.input_features(),
        .layers = wire::DescribeLayers(spec_.layers()),
        .input_image = spec_.has_input_image() ? image : MapShape{}};
    for (const tensor::TensorSpec& tensor : layout_) {
      values_.push_back(RandomFloats(tensor.size(), 7 + values_.size()));
      if (!tensor.name.ends_with("running_var")) continue;
      for (float& value : values_.back()) value = std::abs(value) + 0.1F;
    }
  }

  // What the network makes of some examples.
  std::vector<float> Outputs(const NetworkSpec& spec, const tensor::ModelLayout& layout,
                             const std::vector<std::vector<float>>& values) {
    const auto topology = std::make_shared<const tensor::ModelTopology>(
        tensor::ModelTopology::Create(
            std::make_shared<const tensor::ModelLayout>(layout),
            std::vector<std::shared_ptr<const tensor::Topology>>(layout.size()))
            .value());
    std::vector<float> all;
    for (const std::vector<float>& tensor : values) {
      all.insert(all.end(), tensor.begin(), tensor.end());
    }
    auto network = Network::Create(spec, {}, topology, 4, 1, BackendKind::kReference).value();
    EXPECT_TRUE(network->SetValues(all).ok());
    const OwnedBatch batch(spec.input_features, 3, 4, network->batch_stride(), 3);
    std::vector<float> outputs(4 * network->outputs());
    const std::vector<int64_t> columns = {0, 1, 2, 3};
    network->Predict(batch.batch, columns, outputs);
    return outputs;
  }

  // Whether a position of a tensor belongs to channel `c` of the group.
  static bool Has(const wire::ChannelGroup& group, size_t tensor, int64_t row, int64_t col,
                  int64_t c) {
    return std::ranges::any_of(group.members, [&](const wire::ChannelMember& member) {
      const int64_t at = member.axis == Axis::kRows ? row : col;
      return member.tensor == tensor && at / member.width == c;
    });
  }

  // One unit less where the group's channels are made.
  static void Shrink(const wire::ChannelGroup& group, std::vector<LayerSpec>& layers,
                     size_t& tensor) {
    for (LayerSpec& layer : layers) {
      Shrink(group, layer.body, tensor);
      Shrink(group, layer.shortcut, tensor);
      if (layer.kind == LayerKind::kLinear || layer.kind == LayerKind::kConv) {
        const bool made =
            std::ranges::any_of(group.members, [&](const wire::ChannelMember& member) {
              return member.tensor == tensor && member.axis == Axis::kRows;
            });
        if (made) --layer.units;
        tensor += layer.bias ? 2 : 1;
      } else if (layer.kind == LayerKind::kBatchNorm) {
        tensor += 4;
      }
    }
  }

  void ExpectRemovable(const wire::ChannelGroup& group, int64_t c) {
    std::vector<std::vector<float>> zeroed = values_;
    std::vector<std::vector<float>> removed(values_.size());
    tensor::ModelLayout smaller;
    for (size_t t = 0; t < layout_.size(); ++t) {
      int64_t rows = 0;
      for (int64_t row = 0; row < layout_[t].rows; ++row) {
        const size_t before = removed[t].size();
        for (int64_t col = 0; col < layout_[t].cols; ++col) {
          float& value = zeroed[t][row * layout_[t].cols + col];
          if (!Has(group, t, row, col, c)) removed[t].push_back(value);
          if (Has(group, t, row, col, c)) value = 0;
        }
        if (removed[t].size() > before) ++rows;
      }
      const auto size = static_cast<int64_t>(removed[t].size());
      smaller.push_back(tensor::CheckedTensor(layout_[t].name, {rows, size / rows}).value());
    }
    NetworkSpec less = network_;
    size_t tensor = 0;
    Shrink(group, less.layers, tensor);
    const std::vector<float> with_zeros = Outputs(network_, layout_, zeroed);
    const std::vector<float> without = Outputs(less, smaller, removed);
    ASSERT_EQ(with_zeros.size(), without.size());
    for (size_t i = 0; i < without.size(); ++i) EXPECT_NEAR(with_zeros[i], without[i], 1e-5);
  }

  void ExpectAllRemovable() {
    for (size_t g = 0; g < groups_.size(); ++g) {
      for (int64_t c = 0; !groups_[g].fixed && c < groups_[g].channels; ++c) {
        SCOPED_TRACE("group " + std::to_string(g) + ", channel " + std::to_string(c));
        ExpectRemovable(groups_[g], c);
      }
    }
  }

  v1::ModelSpec spec_;
  std::vector<wire::ChannelGroup> groups_;
  tensor::ModelLayout layout_;
  NetworkSpec network_;
  std::vector<std::vector<float>> values_;  // by tensor
};

class PerceptronChannelsTest : public ChannelGroupsTest {
 protected:
  PerceptronChannelsTest()
      : ChannelGroupsTest(R"pb(
          input_features: 5
          layers { linear { units: 4 activation: ACTIVATION_SIGMOID } }
          layers { batch_norm {} }
          layers { linear { units: 6 no_bias: true activation: ACTIVATION_TANH } }
          layers { linear { units: 3 } })pb") {}
};

TEST_F(PerceptronChannelsTest, ZeroedChannelsAreLikeRemovedOnes) {
  ASSERT_EQ(groups_.size(), 4);
  ExpectAllRemovable();
}

class ConvolutionChannelsTest : public ChannelGroupsTest {
 protected:
  ConvolutionChannelsTest()
      : ChannelGroupsTest(R"pb(
          input_image { channels: 2 height: 6 width: 5 }
          layers { conv2d { channels: 3 activation: ACTIVATION_SIGMOID } }
          layers { batch_norm { activation: ACTIVATION_RELU } }
          layers {
            residual {
              activation: ACTIVATION_RELU
              body { conv2d { channels: 4 no_bias: true } }
              body { batch_norm { activation: ACTIVATION_RELU } }
              body { conv2d { channels: 3 } }
            }
          }
          layers {
            residual {
              body { conv2d { channels: 5 stride: 2 } }
              shortcut { conv2d { channels: 5 kernel: 1 stride: 2 no_bias: true } }
              shortcut { batch_norm {} }
            }
          }
          layers { max_pool {} }
          layers { flatten {} }
          layers { batch_norm {} }
          layers { linear { units: 4 activation: ACTIVATION_TANH } }
          layers { linear { units: 3 } })pb") {}
};

TEST_F(ConvolutionChannelsTest, ZeroedChannelsAreLikeRemovedOnes) {
  // Examples, the first convolution with the block that adds to it, what is inside of that block,
  // the second block, the hidden layer, and the outputs.
  ASSERT_EQ(groups_.size(), 6);
  ExpectAllRemovable();
}

}  // namespace
}  // namespace espalier::worker::engine
