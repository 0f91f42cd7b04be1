#include "worker/engine/engine_kind.h"
#include "worker/engine/flow/product_flow.h"
#include "worker/engine/layers/product_layer.h"

namespace espalier::worker::engine {
namespace {

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kConv) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& spec, const MapShape& input,
                                              const LayerPlace& place,
                                              BuildContext& context) const override {
    return ProductLayer::Create(spec, input, place.index, place.input_gradient, context);
  }

  absl::StatusOr<std::unique_ptr<FlowNode>> MakeFlow(const LayerSpec& spec, const MapShape& input,
                                                     FlowContext& context) const override {
    return MakeProductFlow(spec, ProductShape(spec, input), context);
  }
};

}  // namespace

const EngineKind& Conv2dKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
