#include "common/wire/model_spec/layer_descriptor.h"

#include <algorithm>

#include "common/base/status.h"

namespace espalier::wire {

const std::string& LayerDescriptor::word() const {
  return v1::Layer::descriptor()->FindFieldByNumber(number_)->name();
}

absl::StatusOr<const LayerDescriptor*> KindOf(const v1::Layer& layer) {
  for (const LayerDescriptor* kind : LayerKinds()) {
    if (kind->number() == layer.kind_case()) return kind;
  }
  return base::InvalidArgument(
      "UNKNOWN_LAYER",
      "expected a layer of a kind, found none; it may need a newer version of this program");
}

void ForEachLayer(Layers& layers, const std::function<void(v1::Layer&)>& visit) {
  for (v1::Layer& layer : layers) {
    visit(layer);
    const auto kind = KindOf(layer);
    if (!kind.ok()) continue;
    for (const Branch& branch : (*kind)->Branches(layer)) {
      // They are parts of `layer`, which is not const.
      ForEachLayer(const_cast<Layers&>(*branch.layers), visit);
    }
  }
}

bool AnyLayer(const Layers& layers, const std::function<bool(const v1::Layer&)>& is_such) {
  return std::any_of(layers.begin(), layers.end(), [&](const v1::Layer& layer) {
    if (is_such(layer)) return true;
    const auto kind = KindOf(layer);
    if (!kind.ok()) return false;
    const std::vector<Branch> branches = (*kind)->Branches(layer);
    return std::any_of(branches.begin(), branches.end(),
                       [&](const Branch& branch) { return AnyLayer(*branch.layers, is_such); });
  });
}

void ApplyLayerDefaults(Layers& layers) {
  for (v1::Layer& layer : layers) {
    const auto kind = KindOf(layer);
    if (kind.ok()) (*kind)->ApplyDefaults(layer);
  }
}

std::vector<tensor::LayerSpec> DescribeLayers(const Layers& layers) {
  std::vector<tensor::LayerSpec> specs;
  for (const v1::Layer& layer : layers) {
    tensor::LayerSpec& spec = specs.emplace_back();
    const auto kind = KindOf(layer);
    spec.kind = tensor::LayerKind(kind.ok() ? std::string_view((*kind)->word()) : "");
    if (kind.ok()) (*kind)->Describe(layer, spec);
  }
  return specs;
}

void DescribePattern(const v1::NOfM& pattern, tensor::LayerSpec& spec) {
  if (pattern.m() == 0) return;
  spec.options[tensor::kKeptOption] = pattern.n();
  spec.options[tensor::kGroupOption] = pattern.m();
  spec.options[tensor::kDecayOption] = pattern.decay();
}

void CheckNoPattern(bool given, const RangeReport& in) {
  in.Check(!given, "n_of_m", "is set by the method n-of-m while it trains; remove it");
}

void CheckElementwise(v1::Activation activation, const RangeReport& in) {
  if (!in.Enum("activation", v1::Activation_IsValid(activation), activation)) return;
  in.Check(activation != v1::ACTIVATION_SOFTMAX, "activation",
           "softmax is for the last layer only; use relu, tanh, sigmoid or linear here");
}

tensor::Activation ActivationOf(v1::Activation activation) {
  switch (activation) {
    case v1::ACTIVATION_RELU:
      return tensor::Activation::kRelu;
    case v1::ACTIVATION_SIGMOID:
      return tensor::Activation::kSigmoid;
    case v1::ACTIVATION_TANH:
      return tensor::Activation::kTanh;
    case v1::ACTIVATION_SOFTMAX:
      return tensor::Activation::kSoftmax;
    default:  // unset is linear, and validators refuse what they do not know
      return tensor::Activation::kLinear;
  }
}

}  // namespace espalier::wire
