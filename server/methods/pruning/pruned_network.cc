// Networks that were trained here: a part is a layer.
#include <algorithm>

#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/pruning/network_program.h"
#include "server/methods/pruning/pruned_kind.h"
#include "server/methods/pruning/sweep/network_sweep.h"

namespace espalier::server::methods {
namespace {

class Network : public PrunedKind {
 public:
  void Validate(const v1::JobSpec&, const Library&,
                std::vector<config::Violation>&) const override {}
  // What most methods compute of a layer's outputs is by its weights as they are stored.
  void ValidateSettings(const v1::JobSpec& spec, const PruningSettings& settings, const Library&,
                        std::vector<config::Violation>& violations) const override {
    const auto tensors = wire::TensorsOf(spec.model());
    const bool by_weights_alone =
        settings.criterion == PruningCriterion::kMagnitude && !settings.refine;
    if (by_weights_alone || !tensors.ok()) return;
    for (const wire::ModelTensor& tensor : *tensors) {
      if (!tensor.spec.name.ends_with(".scale")) continue;
      violations.push_back(
          {"model.pretrained",
           "expected convolutions that multiply by their weights, found standardised "
           "ones (" +
               tensor.spec.name + "); use magnitude or essential-sparsity"});
      return;
    }
  }
  absl::StatusOr<int32_t> Rounds(const v1::JobSpec& spec, const Library&) const override {
    ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
    return static_cast<int32_t>(std::max<size_t>(1, SparsifiableTensors(*layout).size()));
  }
  absl::StatusOr<CoordinatorDemand> Demand(const v1::JobSpec& spec, const Library&) const override {
    CoordinatorDemand demand;
    ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
    for (const size_t i : SparsifiableTensors(*layout)) {
      demand.other_bytes = std::max(demand.other_bytes, StatisticsBytes((*layout)[i].cols));
    }
    return demand;
  }
  std::unique_ptr<Program> MakeProgram(const v1::JobSpec& spec, const PruningSettings& settings,
                                       const Library& library) const override {
    return std::make_unique<NetworkPruningProgram>(spec, settings, library);
  }
  std::unique_ptr<Program> MakeSweep(const v1::JobSpec& spec, SweepSettings settings,
                                     const Library& library) const override {
    return std::make_unique<NetworkSweep>(spec, std::move(settings), library);
  }
};

}  // namespace

const PrunedKind& PrunedNetwork() {
  static const Network kind;
  return kind;
}

}  // namespace espalier::server::methods
