#include "server/methods/start/optimizer_start.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "server/pretrained/same_network.h"

namespace espalier::server::methods {
namespace {

using espalier::checkpoint::CheckpointKind;
using espalier::checkpoint::SavedOptimizer;

// What the numbers of a state mean, for people. Two optimizers of the same word can go on with each
// other's state.
const char* KindWord(const v1::Optimizer& optimizer) {
  if (optimizer.kind() == v1::Optimizer::KIND_ADAM) return "Adam's moments";
  // What is remembered has the other sign there, and the learning rate in it.
  return optimizer.decoupled_weight_decay() ? "momentum of SGD with decoupled weight decay"
                                            : "momentum of SGD";
}

// Why the job's optimizer cannot go on with the state of this one; "" when it can.
std::string WhyNotFrom(const SavedOptimizer& saved, const v1::Optimizer& optimizer) {
  const std::string kept = KindWord(saved.optimizer);
  if (const std::string wanted = KindWord(optimizer); kept != wanted) {
    return fmt::format("the checkpoint holds {}, and the job's optimizer keeps {}", kept, wanted);
  }
  if (optimizer.kind() == v1::Optimizer::KIND_ADAM && saved.steps == 0) {
    return "the checkpoint does not say how many minibatches lie behind Adam's moments";
  }
  return "";
}

absl::Status Refused(const std::string& checkpoint, std::string_view slot,
                     const std::string& tensor, const char* expected, float found) {
  return base::MakeError(
      absl::StatusCode::kDataLoss, "OPTIMIZER_STATE_INVALID",
      fmt::format("expected {} in the optimizer state of {}, found {} in the {} of {}; set "
                  "training.optimizer.across_rounds to reset, which begins with a fresh "
                  "optimizer, or name another checkpoint",
                  expected, checkpoint, found, slot, tensor));
}

// Appends what `slot` keeps for the stored values of a tensor.
absl::Status AppendSlot(const std::string& name,
                        const espalier::checkpoint::CheckpointReader& reader, int slot,
                        size_t tensor, const tensor::ModelTopology& topology,
                        std::vector<float>& numbers) {
  const v1::Optimizer& optimizer = reader.metadata().optimizer->optimizer;
  std::vector<float> dense;
  ESPALIER_RETURN_IF_ERROR(
      reader.ReadOptimizerState(slot, tensor, [&dense](std::span<const float> piece) {
        dense.insert(dense.end(), piece.begin(), piece.end());
      }));
  const bool squares = optimizer.kind() == v1::Optimizer::KIND_ADAM && slot == 1;
  const auto bad = std::ranges::find_if(
      dense, [squares](float number) { return !std::isfinite(number) || (squares && number < 0); });
  if (bad != dense.end()) {
    return Refused(name, espalier::checkpoint::SlotName(optimizer, slot),
                   topology.layout()[tensor].name,
                   squares ? "finite numbers of at least 0" : "finite numbers", *bad);
  }
  if (!topology.is_sparse(tensor)) {
    numbers.insert(numbers.end(), dense.begin(), dense.end());
    return absl::OkStatus();
  }
  for (const int64_t position : topology.topology(tensor).Positions()) {
    numbers.push_back(dense[static_cast<size_t>(position)]);
  }
  return absl::OkStatus();
}

// Why there is no state in the model that `name` names, by its kind; "" for a network's checkpoint.
absl::StatusOr<std::string> WhyNotIn(const std::string& name,
                                     const pretrained::ModelLibrary& library) {
  if (!pretrained::IsCheckpointName(name)) {
    return "a model under --models comes without the state of its optimizer";
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto metadata, library.ReadMetadata(name));
  if (metadata.kind == CheckpointKind::kLanguageModel) {
    return "the checkpoint was pruned, without an optimizer";
  }
  if (!metadata.optimizer.has_value()) {
    return "the checkpoint holds none; jobs write it with optimizer.across_rounds: average";
  }
  return "";
}

}  // namespace

absl::StatusOr<FirstOptimizerState> OptimizerStateAtStart(const v1::JobSpec& spec,
                                                          const tensor::ModelTopology& topology,
                                                          const pretrained::ModelLibrary* library) {
  FirstOptimizerState first;
  const std::string& name = spec.model().pretrained();
  if (name.empty() || library == nullptr) return first;
  const v1::Optimizer& optimizer = spec.training().optimizer();
  if (optimizer.across_rounds() != v1::Optimizer::ACROSS_ROUNDS_AVERAGE) {
    first.start.why_fresh = "optimizer.across_rounds is reset";
    return first;
  }
  ESPALIER_ASSIGN_OR_RETURN(first.start.why_fresh, WhyNotIn(name, *library));
  if (!first.start.why_fresh.empty()) return first;
  ESPALIER_ASSIGN_OR_RETURN(const auto reader, library->OpenNetwork(name));
  const SavedOptimizer& saved = *reader->metadata().optimizer;
  first.start.why_fresh = WhyNotFrom(saved, optimizer);
  if (!first.start.why_fresh.empty()) return first;
  ESPALIER_RETURN_IF_ERROR(pretrained::CheckNetwork(topology.layout(), *reader));
  ESPALIER_RETURN_IF_ERROR(reader->Verify());
  const int slots = espalier::checkpoint::SlotsOf(saved.optimizer);
  first.numbers.reserve(static_cast<size_t>(slots * topology.total_stored()));
  for (int slot = 0; slot < slots; ++slot) {
    for (size_t i = 0; i < topology.num_tensors(); ++i) {
      ESPALIER_RETURN_IF_ERROR(AppendSlot(name, *reader, slot, i, topology, first.numbers));
    }
  }
  first.start.checkpoint = name;
  first.start.steps = saved.steps;
  return first;
}

}  // namespace espalier::server::methods
