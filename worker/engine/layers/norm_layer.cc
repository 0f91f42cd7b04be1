#include "worker/engine/layers/rms_norm.h"

#include "common/base/status.h"
#include "worker/engine/sequence/norms.h"

namespace espalier::worker::engine {

absl::StatusOr<std::unique_ptr<RmsNormLayer>> RmsNormLayer::Create(const LayerSpec& spec,
                                                                   const MapShape& input,
                                                                   BuildContext& context) {
  if (!(spec.epsilon > 0)) return SpecError("the epsilon of a norm must be above 0");
  ESPALIER_RETURN_IF_ERROR(CheckNextTensor(context, input.features(), 1));
  const int64_t offset = context.topology.offset(context.next_tensor++);
  context.workspace.NeedVector(input.features());
  return std::unique_ptr<RmsNormLayer>(new RmsNormLayer(spec, input, offset, context));
}

void RmsNormLayer::Forward(const Pass& pass, const float* input) {
  const ColumnShape columns = {shape().features(), stride(), pass.extent.width};
  RmsNorm(columns, input, pass.values + offset_, epsilon_, mutable_output(), threads());
}

void RmsNormLayer::Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                            const BackwardTarget& target) {
  const ColumnShape columns = {shape().features(), stride(), pass.extent.width};
  const std::span<float> gradient = workspace().vector().first(shape().features());
  Workspace::Lease unused(workspace());
  float* dx = input_delta == nullptr ? unused.data() : input_delta;
  RmsNormGradient(columns, input, pass.values + offset_, epsilon_, delta, dx, gradient.data(),
                  threads());
  if (target.gradients) target.gradients(offset_, gradient);
}

}  // namespace espalier::worker::engine
