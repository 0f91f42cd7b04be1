#include "server/methods/runs/training_run.h"

#include <utility>

#include "common/base/status.h"

namespace espalier::server::methods {

absl::StatusOr<ProgramState> TrainingRun::Begin(std::string name, int32_t round,
                                                tensor::ModelState model) const {
  ProgramState state;
  state.run = std::move(name);
  state.round = round;
  model.optimizer_state.clear();
  ESPALIER_ASSIGN_OR_RETURN(Transition transition,
                            BeginTraining(std::move(state), std::move(model)));
  return std::move(transition.state);
}

}  // namespace espalier::server::methods
