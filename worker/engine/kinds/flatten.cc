#include "worker/engine/engine_kind.h"

namespace espalier::worker::engine {
namespace {

class FlattenFlow final : public FlowNode {
 public:
  using FlowNode::FlowNode;
  void Forward(const FlowValues& input, FlowValues& output) override { output = input; }
  FlowValues Backward(const FlowValues& /*input*/, FlowValues delta) override { return delta; }
};

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kFlatten) {}

  // Features are stored in the order of the image: nothing moves.
  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& /*spec*/, const MapShape& /*input*/,
                                              const LayerPlace& /*place*/,
                                              BuildContext& /*context*/) const override {
    return nullptr;
  }
  MapShape View(const MapShape& input) const override { return {.channels = input.features()}; }

  absl::StatusOr<std::unique_ptr<FlowNode>> MakeFlow(const LayerSpec& /*spec*/,
                                                     const MapShape& input,
                                                     FlowContext& /*context*/) const override {
    return std::make_unique<FlattenFlow>(View(input));
  }
};

}  // namespace

const EngineKind& FlattenKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
