#include "worker/engine/engine_kind.h"

#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::worker::engine {

absl::StatusOr<std::unique_ptr<FlowNode>> EngineKind::MakeFlow(const LayerSpec& /*spec*/,
                                                               const MapShape& /*input*/,
                                                               FlowContext& /*context*/) const {
  return base::MakeError(
      absl::StatusCode::kUnimplemented, "SYNAPTIC_FLOW_NOT_OFFERED",
      fmt::format("expected layers that synaptic flow is computed through, found {}; use another "
                  "method",
                  kind_.word()));
}

absl::StatusOr<const EngineKind*> EngineKindOf(LayerKind kind) {
  for (const EngineKind* known : EngineKinds()) {
    if (known->kind() == kind) return known;
  }
  return SpecError(
      fmt::format("expected a kind of layer that this worker knows, found '{}'; a newer worker may "
                  "know it",
                  kind.word()));
}

}  // namespace espalier::worker::engine
