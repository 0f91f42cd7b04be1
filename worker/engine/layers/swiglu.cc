#include "worker/engine/layers/swiglu.h"

#include <algorithm>

#include "common/base/status.h"
#include "worker/engine/activation.h"
#include "worker/engine/parallel.h"
#include "worker/engine/sequence/gates.h"

namespace espalier::worker::engine {

absl::StatusOr<std::unique_ptr<SwiGluLayer>> SwiGluLayer::Create(const LayerSpec& spec,
                                                                 const MapShape& input,
                                                                 size_t index,
                                                                 BuildContext& context) {
  if (spec.units < 1) return SpecError("units must be at least 1");
  std::unique_ptr<SwiGluLayer> layer(new SwiGluLayer(spec, context));
  const LayerSpec product = {
      .units = spec.units, .activation = Activation::kLinear, .bias = spec.bias};
  ESPALIER_ASSIGN_OR_RETURN(layer->gate_,
                            ProductLayer::Create(product, input, index, true, context));
  ESPALIER_ASSIGN_OR_RETURN(layer->up_, ProductLayer::Create(product, input, index, true, context));
  layer->gate_->PlanOutput(OutputUse::kExact);
  layer->up_->PlanOutput(OutputUse::kExact);
  return layer;
}

void SwiGluLayer::Forward(const Pass& pass, const float* input) {
  gate_->Forward(pass, input);
  up_->Forward(pass, input);
  ParallelRows(threads(), shape().features(), [&](RowRange rows) {
    CopyRows(gate_->output(), mutable_output(), stride(), pass.extent.width, rows);
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      SwiGlu(up_->output() + r * stride(), pass.extent.width, mutable_output() + r * stride());
    }
  });
}

void SwiGluLayer::Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                           const BackwardTarget& target) {
  const int64_t width = pass.extent.width;
  Workspace::Lease gate(workspace());
  ParallelRows(threads(), shape().features(), [&](RowRange rows) {
    CopyRows(gate_->output(), gate.data(), stride(), width, rows);
    // The output of up is not needed any more and becomes its gradient.
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      SwiGluGradient(delta + r * stride(), width, gate.data() + r * stride(),
                     up_->output_in_place() + r * stride());
    }
  });
  gate_->Backward(pass, input, gate.data(), input_delta, target);
  float* sum = input_delta == nullptr ? nullptr : gate.data();
  up_->Backward(pass, input, up_->output_in_place(), sum, target);
  if (input_delta == nullptr) return;
  ParallelRows(threads(), up_->input_features(),
               [&](RowRange rows) { AddRows(sum, input_delta, stride(), width, rows); });
}

void SwiGluLayer::CollectProducts(std::vector<const ProductLayer*>& products) const {
  gate_->CollectProducts(products);
  up_->CollectProducts(products);
}

}  // namespace espalier::worker::engine
