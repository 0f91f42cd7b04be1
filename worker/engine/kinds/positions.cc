#include "worker/engine/engine_kind.h"
#include "worker/engine/layers/embedding.h"

namespace espalier::worker::engine {
namespace {

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kPositions) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& spec, const MapShape& input,
                                              const LayerPlace& /*place*/,
                                              BuildContext& context) const override {
    return LearnedPositions::Create(spec, input, context);
  }
};

}  // namespace

const EngineKind& PositionsKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
