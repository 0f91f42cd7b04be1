#include "server/methods/aggregation/control_variates.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/base/status.h"

namespace espalier::server::methods {
namespace {

float At(const NumberSet& set, size_t i) { return set == nullptr ? 0.0F : (*set)[i]; }

absl::Status CheckUpdates(std::span<const reduce::Update> updates, size_t stored) {
  if (updates.empty()) {
    return base::FailedPrecondition("UPDATES_MISSING",
                                    "control variates need each participant's update, found none");
  }
  for (const reduce::Update& update : updates) {
    if (update.values.size() != stored) {
      return base::FailedPrecondition(
          "UPDATES_MISSING", fmt::format("expected {} values from participant {}, found {}", stored,
                                         update.participant, update.values.size()));
    }
    if (update.steps < 1) {
      return base::FailedPrecondition(
          "UPDATES_MISSING",
          fmt::format("expected at least 1 local step of participant {}, found {}; upgrade workers "
                      "together with the coordinator",
                      update.participant, update.steps));
    }
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<float> Correction(const ServerState& state, const std::string& participant) {
  const auto own = state.controls.find(participant);
  const NumberSet control = own == state.controls.end() ? nullptr : own->second;
  if (state.control == nullptr && control == nullptr) return {};
  std::vector<float> correction((control == nullptr ? state.control : control)->size());
  for (size_t i = 0; i < correction.size(); ++i) {
    correction[i] = At(state.control, i) - At(control, i);
  }
  return correction;
}

absl::Status UpdateControls(const v1::TrainTask& task, const tensor::ModelTopology& topology,
                            std::span<const float> before, std::span<const reduce::Update> updates,
                            int64_t total, ServerState& state) {
  ESPALIER_RETURN_IF_ERROR(CheckUpdates(updates, before.size()));
  // Nothing was learned while the learning rate was 0 (the start of a warm-up).
  if (!(task.learning_rate() > 0)) return absl::OkStatus();
  std::vector<double> change(before.size(), 0.0);
  for (const reduce::Update& update : updates) {
    const double steps = static_cast<double>(update.steps) * task.learning_rate();
    NumberSet& own = state.controls[update.participant];
    std::vector<float> next(before.size(), 0.0F);
    for (size_t tensor = 0; tensor < topology.num_tensors(); ++tensor) {
      if (topology.layout()[tensor].buffer) continue;
      const int64_t begin = topology.offset(tensor);
      for (int64_t i = begin; i < begin + topology.stored(tensor); ++i) {
        const double slope = (static_cast<double>(before[i]) - update.values[i]) / steps;
        next[i] =
            static_cast<float>(At(own, i) - static_cast<double>(At(state.control, i)) + slope);
        change[i] += static_cast<double>(next[i]) - At(own, i);
      }
    }
    own = std::make_shared<const std::vector<float>>(std::move(next));
  }
  std::vector<float> control(before.size());
  for (size_t i = 0; i < control.size(); ++i) {
    control[i] = static_cast<float>(At(state.control, i) + change[i] / static_cast<double>(total));
  }
  state.control = std::make_shared<const std::vector<float>>(std::move(control));
  return absl::OkStatus();
}

}  // namespace espalier::server::methods
