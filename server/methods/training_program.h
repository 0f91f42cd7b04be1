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
// Phases:      ProgramState::phase is "channel_statistics", "train", "recalibrate",
//              "evaluate_federated", "evaluate_central" or "done": the step whose result Next()
//              expects; or one of the method's own.
// Ownership, threading, determinism, errors: as Program.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "absl/status/statusor.h"
#include "common/wire/model_spec/cost.h"
#include "server/methods/evolution.h"
#include "server/methods/program.h"
#include "server/methods/program_memory.h"

namespace espalier::server::methods {

class TrainingProgram : public Program {
 public:
  // Where model.pretrained names a model, `library` has it; methods that never begin with one need
  // none.
  explicit TrainingProgram(const v1::JobSpec& spec,
                           std::shared_ptr<const pretrained::ModelLibrary> library = nullptr);
  absl::StatusOr<Transition> Start() const final;
  absl::StatusOr<Transition> Next(ProgramState state, reduce::Reduced reduced) const final;

 protected:
  // The first of the steps before round 1, which end with BeginTraining(). Default: none.
  virtual absl::StatusOr<std::optional<Transition>> StartPrelude() const { return std::nullopt; }
  // Goes on after a step whose phase is none of the training loop's: of the prelude, or one from
  // AskBeforePlanning().
  virtual absl::StatusOr<Transition> NextInPrelude(ProgramState state,
                                                   const reduce::Reduced& reduced) const;
  // Round 1 on `model`. `state` is that of the prelude, or empty.
  absl::StatusOr<Transition> BeginTraining(ProgramState state, tensor::ModelState model) const;

  // A structure per tensor of `layout`; null is dense. Default: all are dense. Methods whose prelude
  // ends with BeginTraining() are not asked.
  virtual absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const {
    return std::vector<std::shared_ptr<const tensor::Topology>>(layout.size());
  }
  // Values of the first model, of this structure. Default: those of the trained model that the job
  // begins with, or initial ones, by the seed.
  virtual absl::StatusOr<std::vector<float>> FirstValues(
      const tensor::ModelTopology& topology) const;
  // The task of a training round. Default: a TrainTask by the job's settings.
  virtual v1::Task MakeTask(const ProgramState& state) const;
  // By which rule a participant changes the structure of rows that only it has (private users)
  // after `round` ≥ 1. Default: it does not. The density is filled in by MakeTask().
  virtual v1::PrivateUpdate PrivateRule(int32_t round) const { return {}; }
  // Whether PlanEvolution() may ever change the structure.
  virtual bool evolves() const { return false; }
  // The change after the round in work, decided from the trained model in `state` and what its
  // training reported besides: the sections GRADIENTS and IMPORTANCE where the task asked for them,
  // and scores. Called when a further round follows.
  virtual absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                                  const reduce::Reduced& trained) const {
    return Evolution{};
  }
  // The same for a method that remembers bytes of its own from round to round, at first none.
  virtual absl::StatusOr<Evolution> PlanFromMemory(const ProgramState& state,
                                                   const reduce::Reduced& trained,
                                                   std::string& /*own*/) const {
    return PlanEvolution(state, trained);
  }
  // Bytes that the method wants to find in ProgramMemory::notes when it plans, of the model with
  // which the round's training began. Called after each round's training but the last.
  virtual std::string NotesOf(const ProgramState& before) const { return {}; }
  // Puts what a round's training gave into `state`. Returns the change of structure that came with
  // it. Default: the mean of the values, no change.
  virtual absl::StatusOr<std::optional<StructureChange>> TakeTrained(
      ProgramState& state, reduce::Reduced& trained) const;
  // A step whose result PlanEvolution() needs as well. NextInPrelude() gets it and goes on with
  // PlanAndProceed(). Default: none.
  virtual absl::StatusOr<std::optional<Transition>> AskBeforePlanning(
      const ProgramState& state) const {
    return std::nullopt;
  }
  // PlanEvolution(), and then the evaluations or the end of the round.
  absl::StatusOr<Transition> PlanAndProceed(ProgramState state,
                                            const reduce::Reduced& trained) const;
  // What is removed after the last round's training, before the final evaluation; drops only.
  virtual absl::StatusOr<Evolution> FinalRemoval(const ProgramState& state) const {
    return Evolution{};
  }
  // Input features by their strength, of the model as it was trained in the last round, the
  // strongest first and without names. Default: not told.
  virtual std::vector<v1::FeatureStrength> Features(const ProgramState& /*state*/) const {
    return {};
  }
  // Values of weights grown after the round in work. Default: zero.
  virtual std::vector<float> GrownWeights(const ProgramState& state,
                                          const StructureChange::Tensor& change) const;
  // What the model is while it is trained, where that is something else than the job says; after
  // FinalRemoval() it is what the job says. Default: it is.
  virtual std::shared_ptr<const v1::ModelSpec> TrainedSpec() const { return nullptr; }
  // Whether rounds are evaluated at all.
  virtual bool evaluates() const { return true; }

  const v1::JobSpec& spec() const { return spec_; }
  const pretrained::ModelLibrary* library() const { return library_.get(); }
  uint64_t seed() const { return spec_.seed(); }
  int32_t rounds() const { return spec_.federation().rounds(); }
  // The error of a step after the last one.
  absl::Status Done(const ProgramState& state) const;
  // 1-based number of the round in work.
  static int32_t RoundInWork(const ProgramState& state) { return state.round + 1; }

 private:
  bool IsEvaluated(int32_t round) const;
  // The first step, once the data is normalised.
  absl::StatusOr<Transition> StartTraining() const;
  // The step that measures the means and deviations of channels over all participants, from
  // `centers`: encoded means; empty: from zero.
  absl::StatusOr<Transition> AskChannelStatistics(std::string centers) const;
  absl::StatusOr<Transition> AfterChannelStatistics(const ProgramState& state,
                                                    const reduce::Reduced& reduced) const;
  // Whether running statistics are taken anew before the evaluation of the round in work.
  bool IsRecalibrated(const ProgramState& state) const;
  absl::StatusOr<Transition> AfterRecalibration(ProgramState state,
                                                const reduce::Reduced& reduced) const;
  absl::StatusOr<Transition> AfterTraining(ProgramState state, reduce::Reduced reduced) const;
  absl::StatusOr<Transition> AfterFederatedEvaluation(ProgramState state,
                                                      const reduce::Reduced& reduced) const;
  absl::StatusOr<Transition> AfterCentralEvaluation(ProgramState state,
                                                    const reduce::Reduced& reduced) const;
  // After training: recalibration if it is due, else as Evaluate().
  absl::StatusOr<Transition> Proceed(ProgramState state) const;
  // Goes on to the next evaluation that is due, else commits. `first`: none has been done.
  absl::StatusOr<Transition> Evaluate(ProgramState state, bool first) const;
  absl::StatusOr<Transition> Commit(ProgramState state) const;
  // What a checkpoint of the round in work holds.
  std::shared_ptr<const tensor::ModelState> CheckpointOf(const ProgramState& state) const;
  // Minibatches that lie behind the optimizer state after the round in work; 0: not known.
  int64_t OptimizerSteps(const ProgramState& state) const;
  // Carries `evolution` out on `state` and returns what to broadcast.
  absl::StatusOr<StructureChange> Change(const Evolution& evolution, ProgramState& state) const;

  // FLOPs and time of the round's training, in its summary.
  void NoteCosts(const reduce::Reduced& reduced, ProgramState& state) const;

  // Means over the examples of an evaluation (of text, tokens; of a recommender, users); nothing
  // without any.
  void DescribeEvaluation(const reduce::Reduced& reduced, bool central,
                          v1::RoundSummary& summary) const;
  // Makes the model of the round the one that job.wire.down can write.
  void RoundForWire(ProgramState& state) const;
  Step TrainStep(ProgramState& state) const;
  Step EvaluateStep(ProgramState& state, bool central) const;

  v1::JobSpec spec_;  // with defaults filled in
  std::shared_ptr<const pretrained::ModelLibrary> library_;
  wire::ModelCost cost_;
};

}  // namespace espalier::server::methods
