#include "worker/engine/layers/swiglu.h"

#include "worker/engine/engine_kind.h"

namespace espalier::worker::engine {
namespace {

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kSwiGlu) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& spec, const MapShape& input,
                                              const LayerPlace& place,
                                              BuildContext& context) const override {
    return SwiGluLayer::Create(spec, input, place.index, context);
  }
};

}  // namespace

const EngineKind& SwigluKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
