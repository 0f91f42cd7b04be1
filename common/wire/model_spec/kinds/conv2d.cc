#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/windows.h"
#include "fmt/format.h"

namespace espalier::wire {
namespace {

constexpr int64_t kMaxChannels = 1'000'000;
constexpr int32_t kMaxKernel = 63;
constexpr int64_t kDefaultKernel = 3;
// √(2 / (1 − 1/π)): makes up for the variance that a ReLU takes (Brock et al., ICLR 2021).
constexpr double kReluGain = 1.7128585504496627;

Window WindowOf(const v1::Conv2dLayer& conv) {
  const int64_t kernel = conv.kernel() == 0 ? kDefaultKernel : conv.kernel();
  return {.kernel = kernel,
          .stride = conv.stride() == 0 ? 1 : conv.stride(),
          .padding = conv.has_padding() ? conv.padding() : kernel / 2};
}

class Conv2d final : public LayerDescriptor {
 public:
  Conv2d() : LayerDescriptor(v1::Layer::kConv2D) {}

  absl::StatusOr<FeatureShape> OutputShape(const v1::Layer& layer,
                                           const FeatureShape& input) const override {
    return Slide(WindowOf(layer.conv2d()), layer.conv2d().channels(), input);
  }

  std::vector<LayerTensor> Tensors(const v1::Layer& layer, const FeatureShape& input,
                                   const FeatureShape& output) const override {
    const v1::Conv2dLayer& conv = layer.conv2d();
    const int64_t kernel = WindowOf(conv).kernel;
    std::vector<LayerTensor> tensors = {{.field = "weight",
                                         .shape = {conv.channels(), input.channels, kernel, kernel},
                                         .sparsifiable = !conv.dense(),
                                         .initializer = conv.initializer(),
                                         .positions = output.positions(),
                                         .transformed = conv.standardize(),
                                         .columns_of_inputs = true}};
    if (conv.standardize()) {
      tensors.push_back({.field = "scale",
                         .shape = {conv.channels()},
                         .role = TensorRole::kScale,
                         .gain = conv.activation() == v1::ACTIVATION_RELU ? kReluGain : 1});
    }
    if (!conv.no_bias()) {
      tensors.push_back({.field = "bias", .shape = {conv.channels()}, .role = TensorRole::kBias});
    }
    return tensors;
  }

  ChannelFlow channel_flow() const override { return ChannelFlow::kNew; }

  void ApplyDefaults(v1::Layer& layer) const override {
    v1::Conv2dLayer& conv = *layer.mutable_conv2d();
    const Window window = WindowOf(conv);
    conv.set_kernel(static_cast<int32_t>(window.kernel));
    conv.set_stride(static_cast<int32_t>(window.stride));
    conv.set_padding(static_cast<int32_t>(window.padding));
    SetDefaultActivation(conv);
    if (conv.initializer() == v1::INITIALIZER_UNSPECIFIED) {
      conv.set_initializer(v1::INITIALIZER_HE);
    }
  }

  bool CheckRanges(const v1::Layer& layer, const LayerPlace& /*place*/,
                   const RangeReport& in) const override {
    const v1::Conv2dLayer& conv = layer.conv2d();
    bool sized = in.Whole("channels", conv.channels(), 1, kMaxChannels);
    const bool kernel = conv.kernel() >= 0 && conv.kernel() <= kMaxKernel;
    in.Check(kernel, "kernel", fmt::format("must be 1..{}, found {}", kMaxKernel, conv.kernel()));
    const bool stride = conv.stride() >= 0 && conv.stride() <= 2;
    in.Check(stride, "stride", fmt::format("must be 1 or 2, found {}", conv.stride()));
    sized = sized && kernel && stride;
    if (kernel && conv.has_padding()) {
      sized &= in.Whole("padding", conv.padding(), 0, WindowOf(conv).kernel - 1);
    }
    in.Enum("initializer", v1::Initializer_IsValid(conv.initializer()), conv.initializer());
    CheckElementwise(conv.activation(), in);
    CheckNoPattern(conv.has_n_of_m(), in);
    return sized;
  }

  void Describe(const v1::Layer& layer, tensor::LayerSpec& spec) const override {
    const v1::Conv2dLayer& conv = layer.conv2d();
    spec.units = conv.channels();
    spec.activation = ActivationOf(conv.activation());
    spec.dense = conv.dense();
    spec.bias = !conv.no_bias();
    spec.standardize = conv.standardize();
    DescribePattern(conv.n_of_m(), spec);
    DescribeWindow(WindowOf(conv), spec);
  }
};

}  // namespace

const LayerDescriptor& Conv2dKind() {
  static const Conv2d kind;
  return kind;
}

}  // namespace espalier::wire
