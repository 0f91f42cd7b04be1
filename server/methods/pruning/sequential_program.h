// SequentialPruningProgram: prunes a model part by part, each with the inputs that the parts before
// it give once they are pruned.
//
// Steps:       evaluate; for each part: statistics of its inputs → prune; evaluate again. A round
//              is a part.
// Determinism: the result depends on the model, the settings and the calibration examples alone,
//              not on how they are divided.
// Errors:      those of the library and of PruneLayer().
#pragma once

#include <memory>

#include "server/methods/program.h"
#include "server/methods/pruning/settings.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {

class SequentialPruningProgram : public Program {
 public:
  absl::StatusOr<Transition> Next(ProgramState state, reduce::Reduced reduced) const final;

 protected:
  SequentialPruningProgram(const v1::JobSpec& spec, const PruningSettings& settings,
                           std::shared_ptr<const pretrained::ModelLibrary> library);

  const v1::JobSpec& spec() const { return spec_; }
  const PruningSettings& settings() const { return settings_; }
  const pretrained::ModelLibrary& library() const { return *library_; }
  // What Start() ends with: the step that evaluates the model of `state`.
  Transition EvaluateDense(ProgramState state) const;

  // Whether losses are reported as perplexities too.
  virtual bool reports_perplexity() const = 0;
  virtual int32_t NumParts(const ProgramState& state) const = 0;
  // Statistics of the inputs of part state.round; participants, reducer and round are set by the
  // caller.
  virtual Step StatisticsStep(const ProgramState& state) const = 0;
  // Prunes part state.round and adds its layers to state.pending.
  virtual absl::StatusOr<ProgramState> PrunePart(ProgramState state,
                                                 const reduce::Reduced& reduced) const = 0;
  // Says how many weights the model has by now.
  virtual void DescribeModel(const ProgramState& state, v1::RoundSummary& summary) const = 0;
  // Hands over the pruned model.
  virtual void Deliver(const ProgramState& state, Transition& transition) const = 0;

 private:
  Transition AskForStatistics(ProgramState state) const;
  Transition Evaluate(ProgramState state, const char* phase) const;
  absl::StatusOr<Transition> AfterStatistics(ProgramState state,
                                             const reduce::Reduced& reduced) const;
  Transition Commit(ProgramState state) const;

  v1::JobSpec spec_;
  PruningSettings settings_;
  std::shared_ptr<const pretrained::ModelLibrary> library_;
};

}  // namespace espalier::server::methods
