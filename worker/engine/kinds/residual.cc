#include "worker/engine/layers/residual.h"

#include <utility>

#include "common/base/status.h"
#include "worker/engine/engine_kind.h"

namespace espalier::worker::engine {
namespace {

class ResidualFlow final : public FlowNode {
 public:
  ResidualFlow(FlowChain body, FlowChain shortcut)
      : FlowNode(body.shape()), body_(std::move(body)), shortcut_(std::move(shortcut)) {}

  void Forward(const FlowValues& input, FlowValues& output) override {
    output = body_.Forward(input, /*rescale=*/false);
    const FlowValues& direct = shortcut_.Forward(input, /*rescale=*/false);
    for (size_t i = 0; i < output.size(); ++i) output[i] += direct[i];
  }
  FlowValues Backward(const FlowValues& input, FlowValues delta) override {
    FlowValues result = body_.Backward(input, delta);
    const FlowValues direct = shortcut_.Backward(input, std::move(delta));
    for (size_t i = 0; i < result.size(); ++i) result[i] += direct[i];
    return result;
  }

 private:
  FlowChain body_;
  FlowChain shortcut_;
};

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kResidual) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& spec, const MapShape& input,
                                              const LayerPlace& place,
                                              BuildContext& context) const override {
    return Residual::Create(spec, input, place.input_gradient, context);
  }

  absl::StatusOr<std::unique_ptr<FlowNode>> MakeFlow(const LayerSpec& spec, const MapShape& input,
                                                     FlowContext& context) const override {
    ESPALIER_ASSIGN_OR_RETURN(FlowChain body, FlowChain::Create(spec.body, input, context));
    ESPALIER_ASSIGN_OR_RETURN(FlowChain shortcut, FlowChain::Create(spec.shortcut, input, context));
    return std::make_unique<ResidualFlow>(std::move(body), std::move(shortcut));
  }
};

}  // namespace

const EngineKind& ResidualKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
