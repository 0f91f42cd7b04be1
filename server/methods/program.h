// Program: a training method as a pure state machine over steps.
//
// A step is a map over participants and a reduce on the coordinator. A program says what the next
// step is, given its state and the reduced result of the last one. Where it works on several models
// at once, its state has a run for each, and their steps are done side by side: all of them end
// before the program says what comes next.
//
// A program does no I/O, reads no clock, and draws randomness only from keyed counter generators
// (base::StreamKey of the job's seed), so that loading a state, doing its step and asking Next()
// repeats a run bit for bit.
//
// Ownership:   states and results are passed by value or const reference; programs keep no mutable
//              state.
// Threading:   a Program is immutable and may be shared; each call runs on its job's strand.
// Determinism: pure functions.
// Errors:      InvalidArgument / FailedPrecondition with a reason; the job then FAILS with that
//              text.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/parameters.h"
#include "common/tensor/model.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"
#include "server/methods/aggregation/server_state.h"
#include "server/methods/families/model_need.h"
#include "server/reduce/reducer.h"

namespace espalier::server::pretrained {
class ModelLibrary;
struct Companions;
}  // namespace espalier::server::pretrained

namespace espalier::server::methods {

struct LanguageModel;  // pruning/language_model.h

// Who does a step. kPlanner: no worker, but whoever decides for the job from outside; the step has
// no task then, and its result is a decision (planning/decision.h).
enum class Participants { kCohort, kAll, kAnyOne, kPlanner };

// One map over participants. The engine adds ids, lease, model and data to `task`.
struct Step {
  v1::Task task;  // only the `kind` oneof is set; nothing for kPlanner
  Participants participants = Participants::kCohort;
  reduce::ReducerKind reducer = reduce::ReducerKind::kMean;
  reduce::Aggregation aggregation;  // how kMean folds; default: weighted by examples
  int32_t round = 1;                // the round (of the run) this step belongs to
  bool prelude = false;             // before the first round, which then begins with a later step
};

// What a program remembers between steps. Everything in it can be written to disk.
//
// A state has a model and the step that is done on it; or `runs`, each of which has these. A run
// that has no step is at its end.
struct ProgramState {
  std::optional<Step> step;  // in work; without one and without runs the program is done
  int32_t round = 0;         // committed rounds; of a run, those of its own clock
  tensor::ModelState model;  // what the next step starts from
  // What `model` is; null: what the job says.
  std::shared_ptr<const v1::ModelSpec> model_spec = nullptr;
  uint64_t topology_version = 0;  // rises with every change of structure
  // Minibatches that lie behind the optimizer state with which the first round began, in the jobs
  // that its checkpoint is of. 0: that state was none, or is one in which they do not count.
  int64_t earlier_steps = 0;
  v1::RoundSummary pending;  // summary of the round in work
  std::string phase;         // the program's own place in its steps
  std::string memory;        // method's own bytes
  ServerState server;        // of the server's optimizer and control variates
  // A language model in parts; `model` is empty then.
  std::shared_ptr<const LanguageModel> language = nullptr;
  // Tokenizer and other files of the model that training began with, for its checkpoints.
  std::shared_ptr<const pretrained::Companions> companions = nullptr;
  // The name of the run, lower-case letters, digits and '-'; "" of a job that trains one model.
  std::string run;
  // The runs that are side by side; `step` and `model` are absent then. They have no runs of
  // their own.
  std::vector<ProgramState> runs;
  // A model that later runs go back to.
  std::shared_ptr<const tensor::ModelState> kept = nullptr;
};

// The states whose steps are in work: the runs that are not at their end, or `state` itself.
std::vector<const ProgramState*> StepsInWork(const ProgramState& state);

// Change of structure from the last committed model to the present one, in the form that is
// cheapest to broadcast: growth from a key costs no bytes per weight.
struct StructureChange {
  std::shared_ptr<const tensor::ModelTopology> base;
  struct Tensor {
    size_t tensor = 0;
    tensor::TopologyDiff diff;           // of a dense tensor: from all its positions
    std::optional<uint64_t> growth_key;  // set when `diff.grown` was drawn from this key
  };
  std::vector<Tensor> tensors;
};

// What (value − mean) / std makes of each channel's raw / scale.
struct ChannelNormalization {
  std::vector<double> mean;
  std::vector<double> std;
};

// With which optimizer state a job began that goes on from a trained model.
struct OptimizerStart {
  std::string checkpoint;  // whose state it is; "" where the optimizer is a fresh one
  int64_t steps = 0;       // minibatches that lie behind the state; 0: not known
  std::string why_fresh;   // a part of a sentence, where it is
};

// What a step led to beside the next state.
struct Outcome {
  std::string run;                            // whose step it was
  std::optional<v1::RoundSummary> committed;  // set when the step was the last one of a round
  // The model as trained and evaluated in the committed round, before any evolution: what a
  // checkpoint holds, with optimizer state where that crosses rounds and another job can begin with
  // it. Null unless `committed`.
  std::shared_ptr<const tensor::ModelState> checkpoint;
  int64_t optimizer_steps = 0;  // minibatches that lie behind that state; 0: not known
  // The same for a language model; at most one of the two is set.
  std::shared_ptr<const LanguageModel> language_checkpoint = nullptr;
  // What `checkpoint` is; null: what the job says.
  std::shared_ptr<const v1::ModelSpec> model_spec = nullptr;
  bool ends_run = false;  // the round was the last one of the run
  std::optional<StructureChange> structure_change;
  // What the finished step was, if it belongs to the prelude: phase, candidate and loss are set.
  std::optional<v1::PreludeStep> prelude_step;
  // Input features by their strength, where the method tells them: set with the last round.
  std::vector<v1::FeatureStrength> features;
};

struct Transition : Outcome {
  ProgramState state;
  // Of steps that were side by side: one for each, in their order. The job's own is empty then.
  std::vector<Outcome> of_runs;
  // When data.normalization is FEDERATED: the job's data from now on. Set twice: first the centers
  // of the second measurement with deviations of 1, then what was measured.
  std::optional<ChannelNormalization> normalization;
  // Set by the step after which training begins, where it begins with a trained model.
  std::optional<OptimizerStart> optimizer_start;
};

// What the steps that have ended led to: `of_runs`, or the transition itself.
std::vector<Outcome*> OutcomesOf(Transition& transition);

class Program {
 public:
  virtual ~Program() = default;
  // The initial model and the first step.
  virtual absl::StatusOr<Transition> Start() const = 0;
  // `reduced` is the result of the step in work of `state`.
  virtual absl::StatusOr<Transition> Next(ProgramState state, reduce::Reduced reduced) const = 0;
  // The same where the steps of several runs are in work: `reduced` are their results, in the order
  // of StepsInWork(). Default: an error, for programs that never have any.
  virtual absl::StatusOr<Transition> NextOfRuns(ProgramState state,
                                                std::vector<reduce::Reduced> reduced) const;
  // Whether steps are ever left to a planner.
  virtual bool asks_planner() const { return false; }
  // Whether Next() would take `decision` as the result of the step in work of `state`, which is one
  // for a planner. Asked before the decision counts, so that a bad one changes nothing. Default:
  // it would not.
  virtual absl::Status CheckDecision(const ProgramState& state, std::string_view decision) const;
};

// Next() or NextOfRuns(), whichever `state` asks for. `reduced` has as many as StepsInWork().
absl::StatusOr<Transition> NextOf(const Program& program, ProgramState state,
                                  std::vector<reduce::Reduced> reduced);

// What a method has the coordinator keep in its largest step beside the model and the sums of its
// weights: for the price of a job (server/admission). In numbers of things, as doubles since they
// are multiplied; none of them is exact.
struct CoordinatorDemand {
  double update_values = 0;  // float32 of an update beside weights and their optimizer state
  double candidates = 0;     // positions with a score or value of their own that one update names
  double value_bytes = 16;   // that a value of an update takes while it is summed
  double candidate_bytes = 36;  // the same of a position that some update names
  double selected = 0;          // weights that are chosen among all positions at once
  double models = 1;            // that are trained side by side
  double steps = 1;             // that are in work side by side
  double other_bytes = 0;
};

// A method: its declaration and how to make a program of a validated job.
struct MethodDeclaration {
  std::string name;
  std::string summary;
  std::string source;
  config::ParameterSchema parameters;
  bool dense_capable_workers = false;
  // Begins with a trained model (model.pretrained) and trains nothing.
  bool prunes = false;
  // Trains, and may begin with a dense model that was trained before (model.pretrained).
  bool begins_trained = false;
  // Cannot begin without one.
  bool needs_trained = false;
  // Such a model may be sparse: what it stores is what training begins with
  // (start/trained_start.h).
  bool keeps_zeros = false;
  // Never changes a structure that training began with. Others refuse training.frozen, as they would
  // move or remove weights that are to stay.
  bool keeps_structure = false;
  // What it needs of a model. Jobs on families that do not offer all of it are refused.
  std::vector<ModelNeed> needs = {ModelNeed::kTraining};
  // Checks beyond the schema (budgets that exempt layers make impossible, and so on).
  std::function<void(const v1::JobSpec&, const config::Parameters&,
                     std::vector<config::Violation>&)>
      validate;
  std::function<std::unique_ptr<Program>(const v1::JobSpec&, const config::Parameters&)> make;
  // The most values that each tensor of the layout ever stores on a worker. Absent: all of them.
  std::function<absl::StatusOr<std::vector<int64_t>>(const v1::JobSpec&, const config::Parameters&)>
      stored_counts = nullptr;
  // Of a valid job. Absent: nothing.
  std::function<absl::StatusOr<CoordinatorDemand>(const v1::JobSpec&, const config::Parameters&)>
      demand = nullptr;
  // How many rounds a job has, when the job does not say so itself. Called for valid jobs.
  std::function<absl::StatusOr<int32_t>(const v1::JobSpec&, const config::Parameters&)> rounds =
      nullptr;
  // How many rounds all runs of a job have together. Absent: the job has one run.
  std::function<int64_t(const v1::JobSpec&, const config::Parameters&)> total_rounds = nullptr;
  // Memory of a worker for each position of the dense model, beside what training those values
  // takes: scores, importance.
  int64_t bytes_per_position = 0;
  // What some values of parameters need beside that, with the name of the parameter.
  std::function<std::vector<std::pair<std::string, ModelNeed>>(const config::Parameters&)>
      needs_of_parameters = nullptr;
};

// Methods by name; filled once from catalog/.
class MethodRegistry {
 public:
  // Methods find trained models in `library`; without one, those that prune can be described only.
  static MethodRegistry Builtin(std::shared_ptr<const pretrained::ModelLibrary> library = nullptr);
  // Others.
  static MethodRegistry Of(std::vector<MethodDeclaration> methods,
                           std::shared_ptr<const pretrained::ModelLibrary> library);
  // May be null.
  const pretrained::ModelLibrary* library() const { return library_.get(); }
  const MethodDeclaration* Find(const std::string& name) const;
  const std::vector<MethodDeclaration>& all() const { return methods_; }
  std::vector<std::string> names() const;
  v1::Method Describe(const MethodDeclaration& method) const;
  // Why the method, with default parameters, does not work on a family; "" when it does.
  static std::string WhyNotOn(const MethodDeclaration& method, const ModelFamily& family);
  // Appends violations for an unknown method name and for parameters; and, when `violations` is
  // still empty, those of the method's own checks, which compute with the job's numbers.
  void Validate(const v1::JobSpec& spec, std::vector<config::Violation>& violations) const;
  // Rounds of a valid job.
  absl::StatusOr<int32_t> CountRounds(const v1::JobSpec& spec) const;
  // Of a valid job with its rounds: those of all its runs together.
  int32_t TotalRounds(const v1::JobSpec& spec) const;
  // Errors: InvalidArgument when Validate() finds something.
  absl::StatusOr<std::unique_ptr<Program>> Make(const v1::JobSpec& spec) const;
  // The most values that each tensor of a valid job's model ever stores on a worker.
  absl::StatusOr<std::vector<int64_t>> StoredCounts(const v1::JobSpec& spec) const;
  // What a valid job's method has the coordinator keep.
  absl::StatusOr<CoordinatorDemand> DemandOf(const v1::JobSpec& spec) const;

 private:
  std::shared_ptr<const pretrained::ModelLibrary> library_;
  std::vector<MethodDeclaration> methods_;
};

}  // namespace espalier::server::methods
