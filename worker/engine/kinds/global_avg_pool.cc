#include "worker/engine/engine_kind.h"
#include "worker/engine/flow/pooling_flow.h"
#include "worker/engine/layers/pooling.h"

namespace espalier::worker::engine {
namespace {

PoolWindow WindowOf(const MapShape& input) { return {input.height, input.width, 1}; }

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kGlobalAveragePool) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& /*spec*/, const MapShape& input,
                                              const LayerPlace& /*place*/,
                                              BuildContext& context) const override {
    return MakePooling(/*largest=*/false, WindowOf(input), input, context);
  }

  absl::StatusOr<std::unique_ptr<FlowNode>> MakeFlow(const LayerSpec& /*spec*/,
                                                     const MapShape& input,
                                                     FlowContext& /*context*/) const override {
    return MakePoolingFlow(/*largest=*/false, WindowOf(input), input);
  }
};

}  // namespace

const EngineKind& GlobalAvgPoolKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
