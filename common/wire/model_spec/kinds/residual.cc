#include "common/base/status.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "fmt/format.h"

namespace espalier::wire {
namespace {

absl::StatusOr<FeatureShape> Through(const Layers& layers, FeatureShape shape) {
  for (const v1::Layer& layer : layers) {
    ESPALIER_ASSIGN_OR_RETURN(shape, OutputShape(layer, shape));
  }
  return shape;
}

class Residual final : public LayerDescriptor {
 public:
  Residual() : LayerDescriptor(v1::Layer::kResidual) {}

  absl::StatusOr<FeatureShape> OutputShape(const v1::Layer& layer,
                                           const FeatureShape& input) const override {
    ESPALIER_ASSIGN_OR_RETURN(const FeatureShape body, Through(layer.residual().body(), input));
    ESPALIER_ASSIGN_OR_RETURN(const FeatureShape shortcut,
                              Through(layer.residual().shortcut(), input));
    if (body == shortcut) return body;
    return ShapeError(
        fmt::format("the body gives {}, the shortcut {}, and they are added; end the shortcut "
                    "with a conv2d of {} channels, kernel 1 and the body's stride",
                    ToText(body), ToText(shortcut), body.channels));
  }

  ChannelFlow channel_flow() const override { return ChannelFlow::kSum; }
  std::vector<Branch> Branches(const v1::Layer& layer) const override {
    return {{"body", &layer.residual().body()}, {"shortcut", &layer.residual().shortcut()}};
  }
  bool may_be_in_branch() const override { return false; }

  void ApplyDefaults(v1::Layer& layer) const override {
    v1::ResidualLayer& residual = *layer.mutable_residual();
    SetDefaultActivation(residual);
    ApplyLayerDefaults(*residual.mutable_body());
    ApplyLayerDefaults(*residual.mutable_shortcut());
  }

  bool CheckRanges(const v1::Layer& layer, const LayerPlace& /*place*/,
                   const RangeReport& in) const override {
    CheckElementwise(layer.residual().activation(), in);
    in.Check(!layer.residual().body().empty(), "body", "expected at least one layer, found none");
    return true;
  }

  void Describe(const v1::Layer& layer, tensor::LayerSpec& spec) const override {
    const v1::ResidualLayer& residual = layer.residual();
    spec.activation = ActivationOf(residual.activation());
    spec.body = DescribeLayers(residual.body());
    spec.shortcut = DescribeLayers(residual.shortcut());
  }
};

}  // namespace

const LayerDescriptor& ResidualKind() {
  static const Residual kind;
  return kind;
}

}  // namespace espalier::wire
