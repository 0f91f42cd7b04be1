#include "common/wire/model_spec/layer_descriptor.h"

namespace espalier::wire {
namespace {

constexpr int64_t kMaxUnits = 10'000'000;

class Linear final : public LayerDescriptor {
 public:
  Linear() : LayerDescriptor(v1::Layer::kLinear) {}

  absl::StatusOr<FeatureShape> OutputShape(const v1::Layer& layer,
                                           const FeatureShape& /*input*/) const override {
    return FeatureShape{.channels = layer.linear().units()};
  }

  std::vector<LayerTensor> Tensors(const v1::Layer& layer, const FeatureShape& input,
                                   const FeatureShape& /*output*/) const override {
    const v1::LinearLayer& linear = layer.linear();
    std::vector<LayerTensor> tensors = {{.field = "weight",
                                         .shape = {linear.units(), input.features()},
                                         .sparsifiable = !linear.dense(),
                                         .initializer = linear.initializer(),
                                         .positions = 1,
                                         .columns_of_inputs = true}};
    if (!linear.no_bias()) {
      tensors.push_back({.field = "bias", .shape = {linear.units()}, .role = TensorRole::kBias});
    }
    return tensors;
  }

  ChannelFlow channel_flow() const override { return ChannelFlow::kNew; }
  bool may_be_last() const override { return true; }
  bool may_be_in_branch() const override { return false; }

  void ApplyDefaults(v1::Layer& layer) const override {
    v1::LinearLayer& linear = *layer.mutable_linear();
    SetDefaultActivation(linear);
    if (linear.initializer() == v1::INITIALIZER_UNSPECIFIED) {
      linear.set_initializer(linear.activation() == v1::ACTIVATION_RELU ? v1::INITIALIZER_HE
                                                                        : v1::INITIALIZER_GLOROT);
    }
  }

  bool CheckRanges(const v1::Layer& layer, const LayerPlace& place,
                   const RangeReport& in) const override {
    const v1::LinearLayer& linear = layer.linear();
    const bool sized = in.Whole("units", linear.units(), 1, kMaxUnits);
    in.Probability("dropout", linear.dropout());
    CheckNoPattern(linear.has_n_of_m(), in);
    in.Check(!place.last || linear.dropout() == 0, "dropout",
             "the last layer's outputs are the result and cannot be dropped; remove dropout here");
    in.Enum("initializer", v1::Initializer_IsValid(linear.initializer()), linear.initializer());
    if (!place.last) {
      CheckElementwise(linear.activation(), in);
    } else {
      in.Enum("activation", v1::Activation_IsValid(linear.activation()), linear.activation());
    }
    return sized;
  }

  void Describe(const v1::Layer& layer, tensor::LayerSpec& spec) const override {
    const v1::LinearLayer& linear = layer.linear();
    spec.units = linear.units();
    spec.activation = ActivationOf(linear.activation());
    spec.dropout = linear.dropout();
    spec.dense = linear.dense();
    spec.bias = !linear.no_bias();
    DescribePattern(linear.n_of_m(), spec);
  }
};

}  // namespace

const LayerDescriptor& LinearKind() {
  static const Linear kind;
  return kind;
}

}  // namespace espalier::wire
