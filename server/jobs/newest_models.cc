#include "server/jobs/newest_models.h"

#include <utility>

namespace espalier::server::jobs {

void NewestModels::Note(const methods::Outcome& outcome,
                        std::shared_ptr<const pretrained::Companions> companions,
                        bool is_checkpoint) {
  const bool has_model = outcome.checkpoint != nullptr || outcome.language_checkpoint != nullptr;
  if (is_checkpoint || !has_model) {
    models_.erase(outcome.run);
    return;
  }
  Model model;
  model.outcome.run = outcome.run;
  model.outcome.committed = outcome.committed;
  model.outcome.checkpoint = outcome.checkpoint;
  model.outcome.optimizer_steps = outcome.optimizer_steps;
  model.outcome.language_checkpoint = outcome.language_checkpoint;
  model.outcome.model_spec = outcome.model_spec;
  model.companions = std::move(companions);
  models_[outcome.run] = std::move(model);
}

methods::ProgramState NewestModels::ToState() const {
  methods::ProgramState state;
  for (const auto& [run, model] : models_) {
    methods::ProgramState& one = state.runs.emplace_back();
    one.run = run;
    one.pending = *model.outcome.committed;
    one.kept = model.outcome.checkpoint;
    one.earlier_steps = model.outcome.optimizer_steps;
    one.language = model.outcome.language_checkpoint;
    one.model_spec = model.outcome.model_spec;
    one.companions = model.companions;
  }
  return state;
}

NewestModels NewestModels::FromState(methods::ProgramState state) {
  NewestModels newest;
  for (methods::ProgramState& one : state.runs) {
    methods::Outcome outcome;
    outcome.run = std::move(one.run);
    outcome.committed = std::move(one.pending);
    outcome.checkpoint = std::move(one.kept);
    outcome.optimizer_steps = one.earlier_steps;
    outcome.language_checkpoint = std::move(one.language);
    outcome.model_spec = std::move(one.model_spec);
    newest.Note(outcome, std::move(one.companions), false);
  }
  return newest;
}

}  // namespace espalier::server::jobs
