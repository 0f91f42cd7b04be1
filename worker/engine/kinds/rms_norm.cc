#include "worker/engine/engine_kind.h"
#include "worker/engine/layers/norm_layer.h"

namespace espalier::worker::engine {
namespace {

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kRmsNorm) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& spec, const MapShape& input,
                                              const LayerPlace& /*place*/,
                                              BuildContext& context) const override {
    return NormLayer::Create(/*centered=*/false, spec.epsilon, input, context);
  }
};

}  // namespace

const EngineKind& RmsNormKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
