#include "worker/engine/layers/embedding.h"

#include "worker/engine/engine_kind.h"

namespace espalier::worker::engine {
namespace {

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kEmbedding) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& spec, const MapShape& input,
                                              const LayerPlace& /*place*/,
                                              BuildContext& context) const override {
    return Embedding::Create(spec, input, context);
  }
};

}  // namespace

const EngineKind& EmbeddingKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
