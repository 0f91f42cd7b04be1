#include "worker/engine/engine_kind.h"
#include "worker/engine/layers/attention_layer.h"

namespace espalier::worker::engine {
namespace {

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kAttention) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& spec, const MapShape& input,
                                              const LayerPlace& place,
                                              BuildContext& context) const override {
    return AttentionLayer::Create(spec, input, place.index, context);
  }
};

}  // namespace

const EngineKind& AttentionKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
