#include "worker/engine/engine_kind.h"
#include "worker/engine/layers/gelu.h"

namespace espalier::worker::engine {
namespace {

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kGeluTanh) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& /*spec*/, const MapShape& input,
                                              const LayerPlace& /*place*/,
                                              BuildContext& context) const override {
    return std::make_unique<GeluLayer>(/*approximate=*/true, input, context);
  }
};

}  // namespace

const EngineKind& GeluTanhKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
