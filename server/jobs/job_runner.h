// JobRunner: one job from PENDING to its end.
//
// It asks the job's program what to do, has workers (StepRunner) or the job's planner (PlannerStep)
// do it, commits what the program says is a round (checkpoint first, then the event), and publishes
// the next model for the workers to fetch. Where the program works on several models at once, there
// is a step in work for each, and the program is asked again when all of them have ended.
//
//   PENDING ──enough workers──▶ RUNNING ──program done──▶ SUCCEEDED
//      ├──────── cancel ───────────┼─▶ CANCELLED          RUNNING ──error──▶ FAILED
//      └──────── pause ────────────┴─▶ PAUSED
//
// A job that is PAUSED or FAILED is parked: what it would go on with is in the store, and nothing of
// it in memory. Another runner goes on with it, as after the end of a process.
//
// Durability:  what changes is noted in the journal, which writes it once the core's task is at its
//              end. A job that another process had in work goes on with the step that was in work
//              then, and what of it had been accepted.
// Threading:   lives on the core executor. Next(), encoding and checkpoints of large models run on
//              the pool, one thing at a time; while one runs, the job does nothing else.
// Determinism: the models depend only on the spec (with its seed) and on which participants were
//              accepted.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "common/base/pacer.h"
#include "server/events/event_log.h"
#include "server/jobs/branch.h"
#include "server/jobs/durable/journal.h"
#include "server/jobs/listing/round_history.h"
#include "server/jobs/newest_models.h"
#include "server/jobs/planning/planner_seat.h"
#include "server/jobs/services.h"
#include "server/methods/program.h"
#include "server/pretrained/part_store.h"
#include "server/round/step_runner.h"
#include "server/store/records/records.pb.h"

namespace espalier::server::jobs {

// Whether a worker that describes the data set so can do tasks of a job whose sites agreed that it is
// `data`: "" if it can.
datasets::DatasetViews::Judge JudgeOf(const v1::JobSpec& spec, const v1::DatasetInfo& data);

// The error of a call that was to do something to a job that has ended: "cancel", for instance.
absl::Status JobHasEnded(const std::string& job, v1::Job::State state, const std::string& what);

// A job without what lists leave out.
v1::Job WithoutDetails(v1::Job job);

class JobRunner : public Journal::Source, public std::enable_shared_from_this<JobRunner> {
 public:
  // `job` has name and a complete, validated spec; `pool` the workers that can do its tasks, and
  // `view` what they have; null for jobs that touch no data.
  JobRunner(Services services, v1::Job job, std::shared_ptr<scheduler::WorkerPool> pool,
            std::shared_ptr<datasets::JobView> view, std::unique_ptr<methods::Program> program);

  // An update that counts, of the step in work of a run. It says whose it is.
  struct CountedUpdate {
    std::string run;
    round::Upload upload;
  };
  // What there is to know of a job that was in the store.
  struct Restored {
    store::JobRecord record;
    std::string state;       // of its program, as bytes
    std::string state_file;  // where these are many: the part that has them
    std::string newest;      // its NewestModels, likewise
    std::string newest_file;
    std::vector<pretrained::Part> state_parts;  // which these bytes name
    std::vector<v1::JobEvent> events;           // from the first one on
    store::ProgressRecord progress;
    std::vector<CountedUpdate> updates;
    std::vector<pretrained::Part> update_parts;  // which these updates are in
    // Of a job that was paused: the log that its watchers have. It has `events`.
    std::shared_ptr<events::EventLog> log = nullptr;
  };
  // A job as it was when another process ended. `pool`, `view` and `program` are null when it has
  // ended, or this process cannot go on with it.
  JobRunner(Services services, Restored restored, std::shared_ptr<scheduler::WorkerPool> pool,
            std::shared_ptr<datasets::JobView> view, std::unique_ptr<methods::Program> program);

  // Asked before the job begins, with whether its workers are there: "" when it may, else what it
  // waits for, or an error when it never may, with which the job fails. To be set at once.
  void BeginWhen(std::function<absl::StatusOr<std::string>(bool ready)> may_begin) {
    may_begin_ = std::move(may_begin);
  }
  // `accepted`: what is kept of it for good (store::AcceptedJob), as bytes. Once, when it is new.
  void KeepAs(std::string accepted);
  Journal::Change TakeChange() override;
  // Starts when the workers are there and it may; lets the step's deadlines pass.
  void Tick();
  // For a job that was restored without its program: what keeps this process from going on with it.
  // It waits for one that can. Its state stays as it was.
  void Hold(const absl::Status& why);
  // Errors: FailedPrecondition JOB_ENDED.
  absl::Status Cancel();
  // Only where jobs are kept. Errors: FailedPrecondition JOB_ENDED, JOB_PAUSED.
  absl::Status Pause();
  // Of a job that was parked and goes on in this runner: tells of it.
  void GoOn();
  // Another runner goes on with the job: this one writes nothing more.
  void Forget();
  // The job was deleted: nothing more is written, and watchers are told that this is the end.
  void Dismiss();
  // Whether it takes the memory of a job in work.
  bool holds_models() const;
  // Calls `then` once nothing of it is computed or written on the pool, at once where that is so.
  void WhenStill(std::function<void()> then);
  bool still() const { return !preparing_ && !failing_; }
  // What holds the files that the store names of a job that is parked.
  std::shared_ptr<void> Files() const;

  // The job as it is now; with the newest of its rounds, or without any.
  v1::Job View(bool with_history) const;
  const RoundHistory& rounds() const { return rounds_; }
  const std::string& name() const { return job_.name(); }
  bool ended() const;
  // Ended or paused.
  bool at_rest() const;
  v1::Job::State state() const { return job_.state(); }
  // Why it does not move at present, such as "WAITING_WORKERS"; "" while it does.
  std::string condition() const;
  // When this process last saw it begin, go on or commit a round.
  absl::Time last_progress() const { return last_progress_; }
  int32_t round() const { return job_.round(); }
  // The round in work, if it is of that number (0: any) and run ("": any).
  std::optional<v1::RoundProgress> RoundInWork(int32_t round, const std::string& run) const;
  std::shared_ptr<events::EventLog> events() const { return events_; }
  // Null where the job's program decides by itself.
  std::shared_ptr<PlannerSeat> planner() const { return planner_; }

  bool Owns(const std::string& task_id) const { return OwnerOf(task_id) != nullptr; }
  // Of a task that this owns.
  std::optional<round::TaskInWork> InWork(const std::string& task_id) const;
  void Accept(round::Upload upload, std::function<void(absl::Status)> done);

 private:
  static constexpr char kWaitingWorkers[] = "WAITING_WORKERS";
  static constexpr char kWaitingStorage[] = "WAITING_STORAGE";

  // A model to be kept: that of a committed round.
  struct Kept {
    std::string model_hash;
    std::optional<checkpoint::CheckpointInfo> checkpoint;  // if one was written
    double checkpoint_seconds = 0;
  };
  // What the pool makes of finished steps: the transition, ready to be published.
  struct Prepared {
    methods::Transition transition;
    // In the order of StepsInWork(transition.state).
    Branches branches;
    std::vector<PublishedModel> models;
    // In the order of OutcomesOf(transition); of those that commit no round, empty.
    std::vector<Kept> kept;
    absl::Status checkpoint_status;
    double prepare_seconds = 0;
  };

  void SetState(v1::Job::State state, const std::string& reason, const std::string& message);
  // Why the job does not move; an empty message clears it.
  void SetWaiting(const std::string& message);
  void SetCondition(const std::string& type, const std::string& message);
  // Work that runs out of memory fails this job, and nothing else.
  void Guard(const std::function<void()>& work);
  void Proceed();
  std::string MissingWorkers() const;
  // Whether nothing can be written at present, which is then the job's condition.
  bool WaitsForStorage();
  // Before the first step: what the data set is to all sites that are there now.
  void AgreeOnData();
  void TakeAnswer(const datasets::DatasetViews::Answer& answer);
  void Begin();
  // `next` may be called again where it does not use anything up (`repeatable`): when the disk did
  // not take what it writes.
  using Next = std::function<absl::StatusOr<methods::Transition>()>;
  void Advance(Next next, bool large, bool repeatable = false);
  // It did not come about.
  void OnNoTransition(const absl::Status& status);
  absl::StatusOr<Prepared> PrepareOrFail(
      const std::function<absl::StatusOr<methods::Transition>()>& next) const;
  absl::StatusOr<Prepared> Prepare(
      const std::function<absl::StatusOr<methods::Transition>()>& next) const;
  absl::Status Publish(Prepared& prepared) const;
  // `update`: what the structure changed by; null: nothing is known of that.
  absl::StatusOr<PublishedModel> PublishModel(const methods::ProgramState& state,
                                              const methods::StructureChange* update,
                                              const Branch& branch) const;
  // Keeps the models of all outcomes, beginning with the first one that is not kept yet.
  void KeepModels(Prepared& prepared) const;
  absl::StatusOr<Prepared> KeepOrFail(absl::StatusOr<Prepared> prepared) const;
  // Whether the model that `outcome` commits is to be a checkpoint; whether any of a transition is.
  bool IsCheckpointed(const methods::Outcome& outcome, const methods::Transition& transition) const;
  bool WritesCheckpoint(methods::Transition& transition) const;
  // Writes what is to be a checkpoint where the core and the pool do not wait for it, and then
  // ApplyOnCore(); on any thread, as that is.
  void KeepWithFiles(absl::StatusOr<Prepared> prepared);
  void ApplyOnCore(absl::StatusOr<Prepared> prepared);
  absl::StatusOr<Kept> Keep(const methods::Outcome& outcome,
                            const methods::Transition& transition) const;
  // A model could not be kept: the same is tried again after a while.
  void HoldBack(Prepared prepared);
  void KeepHeldBack();
  absl::Status WriteCheckpoint(const methods::Outcome& outcome,
                               const std::shared_ptr<const pretrained::Companions>& companions,
                               Kept& kept) const;
  // Of the model that `outcome` commits; at most one of its two forms is set.
  absl::StatusOr<checkpoint::CheckpointInfo> WriteModel(
      const methods::Outcome& outcome,
      const std::shared_ptr<const pretrained::Companions>& companions,
      const checkpoint::CheckpointMetadata& metadata) const;
  std::unique_ptr<reduce::Reducer> MakeReducerFor(const methods::ProgramState& state,
                                                  const wire::ResultLayout& layout) const;
  void Apply(absl::StatusOr<Prepared> prepared);
  // What the prepared transition led to, for the job's log and its summary.
  void Report(Prepared& prepared);
  void CommitRound(methods::Outcome& outcome, const Kept& kept, Branch& branch);
  // A checkpoint was written.
  void NoteCheckpoint(const checkpoint::CheckpointInfo& checkpoint, double seconds);
  // The run's line in the job.
  void NoteRun(const v1::RoundSummary& summary, const Kept& kept);
  // Input features by their strength, with their names.
  void NoteFeatures(const std::vector<v1::FeatureStrength>& features);
  void NoteOptimizerStart(const methods::OptimizerStart& start);
  // Best accuracy, and what each site found.
  void NoteEvaluation(const v1::RoundSummary& summary, Branch& branch);
  // Counts and tells of a step before the first round.
  void ReportPrelude(v1::PreludeStep step, Branch& branch);
  // Begins the steps in work.
  void RunSteps();
  // From which the time and traffic of a step, and of its round, are counted.
  void StartClocks(const methods::Step& step, Branch& branch) const;
  // `turn`: shared with the steps beside it; null when it is alone.
  void MakeStep(const methods::ProgramState& state, const std::shared_ptr<Branch>& branch,
                const std::shared_ptr<round::SuspectTurn>& turn);
  void ReleaseModel();
  // Ends the steps; the job can go on with what is in the store.
  void Park(const std::string& reason);
  // Gives back the memory of a job that is parked, once everything is written.
  void LetGo();
  void ReleaseMemory();
  // The branch whose step in work has this task; null when none has.
  Branch* OwnerOf(const std::string& task_id) const;
  bool HasStep() const;
  void AbortSteps(const std::string& reason);
  // A step that the job's planner does.
  std::shared_ptr<round::StepInWork> MakePlannerStep(const methods::ProgramState& state,
                                                     const std::shared_ptr<Branch>& branch);
  // Whether the step in work of this run takes a planner's decision.
  absl::Status CheckDecision(const std::string& run, const std::string& decision) const;
  // The job's, with more time for steps that are side by side: they share who does them.
  v1::Federation FederationOfSteps() const;
  round::StepPlan MakePlan(const methods::ProgramState& state, const Branch& branch) const;
  // Private rows: gives every shard to a worker, which keeps it for the life of the job.
  void AssignOwners();
  std::vector<round::ParticipantSpec> ChooseParticipants(const methods::Step& step) const;
  // Those who do it already, or who would.
  std::vector<round::ParticipantSpec> ParticipantsOf(const methods::Step& step,
                                                     const Branch& branch) const;
  // How many examples each participant's update can be about.
  void BoundExamples(const v1::Task& task, std::vector<round::ParticipantSpec>& participants) const;
  round::StepListener MakeListener(const methods::Step& step,
                                   const std::shared_ptr<Branch>& branch);
  void OnStepFinished(absl::StatusOr<reduce::Reduced> reduced, Branch& branch);
  // Ends the steps, keeps the newest models as checkpoints, and then ends the job.
  void Fail(const absl::Status& status);
  // The models of `newest` that the job does not have as checkpoints yet, by their rounds.
  std::vector<NewestModels::Model> WithoutCheckpoint(const NewestModels& newest) const;
  // What of `newest` became checkpoints, and the error at which it ended.
  struct KeptNewest {
    std::vector<Kept> kept;
    absl::Status status;
  };
  KeptNewest KeepNewest(const std::vector<NewestModels::Model>& newest) const;
  void OnNewestKept(const KeptNewest& newest, const absl::Status& status);
  void EndAsFailed(const absl::Status& status, const std::string& more);
  // Counts the rounds that have begun as ended like this.
  void EndRounds(const char* outcome);
  // For those who look at the round in work, and then at rounds that have ended.
  void EnterPhase(Branch& branch, const std::string& phase) const;
  void KeepProgress(Branch& branch) const;
  // One line a second at most; the others are for those who debug.
  void LogRound(const v1::RoundSummary& summary);
  v1::JobEvent NewEvent() const;
  // Takes the event into the log; watchers see it once it is written.
  void Emit(v1::JobEvent event);
  // Something of the job changed that is kept.
  void Touch();
  // Goes on with the state that another process left.
  void Resume();
  absl::StatusOr<methods::Transition> LoadTransition() const;
  // What the journal's thread makes of the state and of updates, until the store has them.
  struct Written;
  void OnWritten(const Written& written);
  store::JobRecord RecordNow() const;
  store::ProgressRecord ProgressNow() const;
  // Whether nobody will go on with it.
  bool is_over() const { return ended() && job_.state() != v1::Job::STATE_FAILED; }
  // Takes the updates of a run that had been accepted by another process.
  std::vector<round::Upload> TakeAccepted(const std::string& run);

  Services services_;
  std::function<absl::StatusOr<std::string>(bool ready)> may_begin_;
  v1::Job job_;                                  // without the history
  std::shared_ptr<scheduler::WorkerPool> pool_;  // of workers that can do its tasks
  std::shared_ptr<datasets::JobView> view_;      // what they have; null: no data
  const bool has_data_;                          // there is something to agree on
  bool agreed_ = false;                          // on the data
  bool agreeing_ = false;                        // they are being asked
  absl::Duration agree_again_;                   // not before
  std::shared_ptr<const methods::Program> program_;
  std::shared_ptr<PlannerSeat> planner_;
  std::shared_ptr<events::EventLog> events_ = std::make_shared<events::EventLog>();
  RoundHistory rounds_{events_};

  std::shared_ptr<const methods::ProgramState> state_ =
      std::make_shared<const methods::ProgramState>();
  Branches branches_;  // in the order of StepsInWork(*state_)
  // The steps have not begun: nobody is there who could, or nothing can be written.
  bool stalled_ = false;
  std::unique_ptr<Prepared> held_back_;  // its models could not be written
  Next next_;                            // in work, if it is repeatable
  bool next_again_ = false;              // what it writes could not be written
  absl::Duration try_again_;             // not before
  std::map<int, std::string> owners_;    // private rows: the worker of each shard
  v1::DatasetInfo data_;                 // what the data set is to all sites, once they agreed

  bool preparing_ = false;  // the pool may be reading the state and the branches
  std::vector<std::function<void()>> when_still_;
  absl::Time last_progress_ = services_.clock.Wall();
  base::Pacer round_log_{absl::Seconds(1)};
  NewestModels newest_;
  bool failing_ = false;  // the newest models are being written
  bool parked_ = false;
  bool forgotten_ = false;
  checkpoint::CheckpointStore::Pin source_;  // the checkpoint that it starts from

  // What of it is to be written next.
  std::optional<std::string> accepted_;
  bool state_changed_ = false;
  int64_t events_taken_ = 0;
  std::string written_record_;  // as it was written last
  // Of a parked job, as it was then.
  std::unique_ptr<store::ProgressRecord> progress_ = std::make_unique<store::ProgressRecord>();
  std::vector<CountedUpdate> counted_;
  std::vector<std::pair<std::string, std::string>> counted_before_;  // store::JobWrite
  // What the store names: files stay as long as these do.
  std::shared_ptr<std::vector<pretrained::Part>> state_parts_;
  std::vector<pretrained::Part> update_parts_;
  // What another process left: until the job goes on, and until its step begins.
  std::optional<std::string> saved_state_;
  std::string saved_state_file_;  // a part that has its bytes
  std::string saved_newest_;      // likewise
  std::string saved_newest_file_;
  // What the pool makes of that.
  std::shared_ptr<NewestModels> loaded_newest_ = std::make_shared<NewestModels>();
  bool resuming_ = false;  // the step in work is one that had begun in that process
  std::vector<CountedUpdate> accepted_before_;
};

}  // namespace espalier::server::jobs
