#include "common/wire/model_spec/layer_descriptor.h"

namespace espalier::wire {
namespace {

constexpr double kDefaultMomentum = 0.1;
constexpr double kDefaultEpsilon = 1e-5;

class BatchNorm final : public LayerDescriptor {
 public:
  BatchNorm() : LayerDescriptor(v1::Layer::kBatchNorm) {}

  absl::StatusOr<FeatureShape> OutputShape(const v1::Layer& /*layer*/,
                                           const FeatureShape& input) const override {
    return input;
  }

  std::vector<LayerTensor> Tensors(const v1::Layer& /*layer*/, const FeatureShape& input,
                                   const FeatureShape& /*output*/) const override {
    const std::vector<int64_t> shape = {input.channels};
    return {{.field = "weight", .shape = shape, .role = TensorRole::kScale},
            {.field = "bias", .shape = shape, .role = TensorRole::kShift},
            {.field = "running_mean", .shape = shape, .role = TensorRole::kRunningMean},
            {.field = "running_var", .shape = shape, .role = TensorRole::kRunningVariance}};
  }

  ChannelFlow channel_flow() const override { return ChannelFlow::kKept; }
  bool normalizes_batches() const override { return true; }

  void ApplyDefaults(v1::Layer& layer) const override {
    v1::BatchNormLayer& norm = *layer.mutable_batch_norm();
    SetDefaultActivation(norm);
    if (norm.momentum() == 0) norm.set_momentum(kDefaultMomentum);
    if (norm.epsilon() == 0) norm.set_epsilon(kDefaultEpsilon);
  }

  bool CheckRanges(const v1::Layer& layer, const LayerPlace& /*place*/,
                   const RangeReport& in) const override {
    const v1::BatchNormLayer& norm = layer.batch_norm();
    const double momentum = norm.momentum();
    in.Number("momentum", momentum, momentum >= 0 && momentum <= 1, "0 < x ≤ 1");
    in.Number("epsilon", norm.epsilon(), norm.epsilon() >= 0 && norm.epsilon() <= 1, "0 < x ≤ 1");
    CheckElementwise(norm.activation(), in);
    return true;
  }

  void Describe(const v1::Layer& layer, tensor::LayerSpec& spec) const override {
    const v1::BatchNormLayer& norm = layer.batch_norm();
    spec.activation = ActivationOf(norm.activation());
    spec.momentum = norm.momentum() > 0 ? norm.momentum() : kDefaultMomentum;
    spec.epsilon = norm.epsilon() > 0 ? norm.epsilon() : kDefaultEpsilon;
  }
};

}  // namespace

const LayerDescriptor& BatchNormKind() {
  static const BatchNorm kind;
  return kind;
}

}  // namespace espalier::wire
