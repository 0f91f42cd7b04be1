// TrainingProgram: the loop that federated training methods share.
//
//   train (cohort, the job's rule) → server's optimizer → [evaluate on all participants' test
//   shares] → [evaluate centrally] → commit → evolve the structure → next round
//
// A method may have steps of its own before the first round (StartPrelude()).
//
// A model is evaluated before it evolves, so that what is reported and kept is a model that was
// trained; nothing evolves after the last round. What a method decides from the reduced training
// result (PlanEvolution) is remembered over the evaluation steps in ProgramState::memory.
//
// Phases:      ProgramState::phase is "train", "evaluate_federated", "evaluate_central" or "done":
// the step
//              whose result Next() expects.
// Ownership, threading, determinism, errors: as Program.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "server/methods/evolution.h"
#include "server/methods/program.h"
#include "server/methods/program_memory.h"

namespace espalier::server::methods {

class TrainingProgram : public Program {
 public:
  explicit TrainingProgram(const v1::JobSpec& spec);
  absl::StatusOr<Transition> Start() const final;
  absl::StatusOr<Transition> Next(ProgramState state, reduce::Reduced reduced) const final;

 protected:
  // The first of the steps before round 1, which end with BeginTraining(). Default: none.
  virtual absl::StatusOr<std::optional<Transition>> StartPrelude() const { return std::nullopt; }
  // Goes on after a step whose phase is none of the training loop's.
  virtual absl::StatusOr<Transition> NextInPrelude(ProgramState state,
                                                   const reduce::Reduced& reduced) const;
  // Round 1 on `model`. `state` is that of the prelude, or empty.
  absl::StatusOr<Transition> BeginTraining(ProgramState state, tensor::ModelState model) const;

  // A structure per tensor of `layout`; null is dense.
  virtual absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const = 0;
  // The task of a training round. Default: a TrainTask by the job's settings.
  virtual v1::Task MakeTask(const ProgramState& state) const;
  // Whether PlanEvolution() may ever change the structure.
  virtual bool evolves() const { return false; }
  // The change after the round in work, decided from the trained model in `state` and what its
  // training reported. Called when a further round follows.
  virtual absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                                  const reduce::Reduced& trained) const {
    return Evolution{};
  }
  // What is removed after the last round's training, before the final evaluation; drops only.
  virtual absl::StatusOr<Evolution> FinalRemoval(const ProgramState& state) const {
    return Evolution{};
  }
  // Values of weights grown after the round in work. Default: zero.
  virtual std::vector<float> GrownWeights(const ProgramState& state,
                                          const StructureChange::Tensor& change) const;
  // Whether rounds are evaluated at all.
  virtual bool evaluates() const { return true; }

  const v1::JobSpec& spec() const { return spec_; }
  uint64_t seed() const { return spec_.seed(); }
  int32_t rounds() const { return spec_.federation().rounds(); }
  // The error of a step after the last one.
  absl::Status Done(const ProgramState& state) const;
  // 1-based number of the round in work.
  static int32_t RoundInWork(const ProgramState& state) { return state.round + 1; }

 private:
  bool IsEvaluated(int32_t round) const;
  absl::StatusOr<Transition> AfterTraining(ProgramState state, reduce::Reduced reduced) const;
  absl::StatusOr<Transition> AfterFederatedEvaluation(ProgramState state,
                                                      const reduce::Reduced& reduced) const;
  absl::StatusOr<Transition> AfterCentralEvaluation(ProgramState state,
                                                    const reduce::Reduced& reduced) const;
  // Goes on to the next evaluation that is due after `phase`, else commits.
  absl::StatusOr<Transition> Proceed(ProgramState state, bool trained_just_now) const;
  absl::StatusOr<Transition> Commit(ProgramState state) const;
  // Carries `evolution` out on `state` and returns what to broadcast.
  absl::StatusOr<StructureChange> Change(const Evolution& evolution, ProgramState& state) const;

  Step TrainStep(ProgramState& state) const;
  Step EvaluateStep(ProgramState& state, bool central) const;

  v1::JobSpec spec_;  // with defaults filled in
};

}  // namespace espalier::server::methods
