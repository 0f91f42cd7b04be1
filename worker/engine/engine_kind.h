// EngineKind: everything that the engine knows of one kind of layer, which a file of kinds/ says:
// how a layer is made of its description, and what flows through it for SynapticFlow.
//
// Ownership:   kinds are constants that live as long as the program. Threading: pure functions.
#pragma once

#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "worker/engine/flow/flow_node.h"
#include "worker/engine/layers/layer.h"
#include "worker/engine/spec.h"

namespace espalier::worker::engine {

// Where in its chain a layer is made.
struct LayerPlace {
  size_t index = 0;             // keys the dropout
  bool input_gradient = false;  // whether Backward() will be asked for it
};

class EngineKind {
 public:
  explicit EngineKind(LayerKind kind) : kind_(kind) {}
  virtual ~EngineKind() = default;

  LayerKind kind() const { return kind_; }

  // The layer, which takes its tensors from `context`; null where the values stay as they are and
  // only their shape becomes View(). Errors: NETWORK_SPEC, SHAPE_MISMATCH, those of the backend.
  virtual absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& spec, const MapShape& input,
                                                      const LayerPlace& place,
                                                      BuildContext& context) const = 0;
  virtual MapShape View(const MapShape& input) const { return input; }

  // The layer for SynapticFlow. A kind that does not say it is not offered: Unimplemented
  // (SYNAPTIC_FLOW_NOT_OFFERED).
  virtual absl::StatusOr<std::unique_ptr<FlowNode>> MakeFlow(const LayerSpec& spec,
                                                             const MapShape& input,
                                                             FlowContext& context) const;

 private:
  LayerKind kind_;
};

// All kinds, in the order of their files.
std::span<const EngineKind* const> EngineKinds();

// Errors: InvalidArgument (NETWORK_SPEC) for a word that no file has.
absl::StatusOr<const EngineKind*> EngineKindOf(LayerKind kind);

}  // namespace espalier::worker::engine
