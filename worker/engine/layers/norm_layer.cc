#include "worker/engine/layers/norm_layer.h"

#include "common/base/status.h"
#include "worker/engine/sequence/norms.h"

namespace espalier::worker::engine {

absl::StatusOr<std::unique_ptr<NormLayer>> NormLayer::Create(bool centered, double epsilon,
                                                             const MapShape& input,
                                                             BuildContext& context) {
  if (!(epsilon > 0)) return SpecError("the epsilon of a norm must be above 0");
  std::unique_ptr<NormLayer> layer(new NormLayer(centered, epsilon, input, context));
  ESPALIER_RETURN_IF_ERROR(CheckNextTensor(context, input.features(), 1));
  layer->weight_offset_ = context.topology.offset(context.next_tensor++);
  if (layer->centered_) {
    ESPALIER_RETURN_IF_ERROR(CheckNextTensor(context, input.features(), 1));
    layer->bias_offset_ = context.topology.offset(context.next_tensor++);
  }
  context.workspace.NeedVector(2 * input.features());
  return layer;
}

void NormLayer::Forward(const Pass& pass, const float* input) {
  const ColumnShape columns = {shape().features(), stride(), pass.extent.width};
  const float* weight = pass.values + weight_offset_;
  if (centered_) {
    LayerNorm(columns, input, weight, pass.values + bias_offset_, epsilon_, mutable_output(),
              threads());
  } else {
    RmsNorm(columns, input, weight, epsilon_, mutable_output(), threads());
  }
}

void NormLayer::Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                         const BackwardTarget& target) {
  const int64_t features = shape().features();
  const ColumnShape columns = {features, stride(), pass.extent.width};
  const std::span<float> weight_gradient = workspace().vector().first(features);
  const std::span<float> bias_gradient = workspace().vector().subspan(features, features);
  Workspace::Lease unused(workspace());
  float* dx = input_delta == nullptr ? unused.data() : input_delta;
  const float* weight = pass.values + weight_offset_;
  if (centered_) {
    LayerNormGradient(columns, input, weight, epsilon_, delta, dx, weight_gradient.data(),
                      bias_gradient.data(), threads());
  } else {
    RmsNormGradient(columns, input, weight, epsilon_, delta, dx, weight_gradient.data(), threads());
  }
  if (!target.gradients) return;
  target.gradients(weight_offset_, weight_gradient);
  if (centered_) target.gradients(bias_offset_, bias_gradient);
}

}  // namespace espalier::worker::engine
