#include "worker/engine/engine_kind.h"
#include "worker/engine/flow/pooling_flow.h"
#include "worker/engine/layers/pooling.h"

namespace espalier::worker::engine {
namespace {

PoolWindow WindowOf(const LayerSpec& spec) { return {spec.kernel, spec.kernel, spec.stride}; }

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kAveragePool) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& spec, const MapShape& input,
                                              const LayerPlace& /*place*/,
                                              BuildContext& context) const override {
    return MakePooling(/*largest=*/false, WindowOf(spec), input, context);
  }

  absl::StatusOr<std::unique_ptr<FlowNode>> MakeFlow(const LayerSpec& spec, const MapShape& input,
                                                     FlowContext& /*context*/) const override {
    return MakePoolingFlow(/*largest=*/false, WindowOf(spec), input);
  }
};

}  // namespace

const EngineKind& AvgPoolKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
