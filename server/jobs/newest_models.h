// NewestModels: the model of each run that was committed last, as long as it is no checkpoint. When
// the job fails these become checkpoints, so that what was trained is not lost with it.
//
// Memory:    models are shared with the outcomes that committed them, and are in the job's price.
// Threading: none of its own; copies share the models.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "server/methods/program.h"

namespace espalier::server::jobs {

class NewestModels {
 public:
  struct Model {
    methods::Outcome outcome;  // what was committed: summary, model and what it is
    std::shared_ptr<const pretrained::Companions> companions;
  };
  // `outcome` committed a round. `is_checkpoint`: its model is one already.
  void Note(const methods::Outcome& outcome,
            std::shared_ptr<const pretrained::Companions> companions, bool is_checkpoint);
  bool empty() const { return models_.empty(); }
  // By the name of the run.
  const std::map<std::string, Model>& models() const { return models_; }

  // As a state that can be saved (methods/program_state_codec.h), and back.
  methods::ProgramState ToState() const;
  static NewestModels FromState(methods::ProgramState state);

 private:
  std::map<std::string, Model> models_;
};

}  // namespace espalier::server::jobs
