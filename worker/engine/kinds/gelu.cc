#include "worker/engine/layers/gelu.h"

#include "worker/engine/engine_kind.h"

namespace espalier::worker::engine {
namespace {

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kGelu) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& /*spec*/, const MapShape& input,
                                              const LayerPlace& /*place*/,
                                              BuildContext& context) const override {
    return std::make_unique<GeluLayer>(/*approximate=*/false, input, context);
  }
};

}  // namespace

const EngineKind& GeluKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
