// StepRunner: carries out one step of a job: gives a task to every participant, collects their
// partials into the reducer, replaces workers that vanish, and closes when it may.
//
// A participant is a shard of the data (any worker may do it) or, with LOCAL data, one worker.
// Closing:     as soon as every participant is done or left out and a quorum is done; at the
//              deadline by the job's policy, once what is being merged then is merged. While no
//              worker could do the work at all, or the owner's quota leaves nothing to the step, the
//              deadline does not run.
// Losses:      a task whose worker vanished goes to another one. A task that was lost twice, or any
//              task once a step has lost workers twice without a single result, is tried alone and
//              with growing pauses, so that it cannot take one worker after the other with it. If
//              proven workers (fleet.h), two of them at least, then vanish with it max_retries
//              times, each time while no other worker did, the participant is left out and
//              TASK_ENDS_WORKERS says what was asked for. With
//              LOCAL data a worker that vanished more than max_retries times is left out where a
//              quorum can do without it.
// Failures:    a reported failure is retried on other workers only. The step fails with the
//              workers' own words once more than max_retries proven workers reported it, or when
//              no worker is left to ask (with LOCAL data: that participant is left out).
// Restart:     what had been accepted when the coordinator ended counts as it did, and is not asked
//              for again.
// Refusals:    an update that the reducer refuses is asked of other workers. A participant of whom
//              no update was good is left out. As many of those as the rule of aggregation
//              tolerates hostile updates are not missed by the quorum.
// Threading:   lives on the core executor. Large merges run on the pool, one at a time.
// Determinism: the result depends only on which participants were accepted.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/executor.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"
#include "server/reduce/reducer.h"
#include "server/round/step_in_work.h"
#include "server/round/upload.h"
#include "server/scheduler/fleet.h"

namespace espalier::server::round {

// What happened in a step, for the job's event log.
struct StepListener {
  std::function<void(const v1::Task& task)> on_sent;
  std::function<void(const v1::TaskReassigned&)> on_reassigned;
  std::function<void(const v1::UpdateRejected&)> on_rejected;
  std::function<void(const v1::QuorumMissed&)> on_quorum_missed;
  std::function<void(absl::StatusOr<reduce::Reduced>)> on_finished;
};

// Who may try a task that may have ended workers, among steps that are side by side: one of them
// at a time, and not right after the last loss, so that it is seen which task a worker ended with.
struct SuspectTurn {
  const void* holder = nullptr;  // the step whose task is out
  absl::Duration not_before = -absl::InfiniteDuration();
};

struct StepPlan {
  v1::Task task;  // everything but ids, participant, shard; with the sections of its result
  std::vector<ParticipantSpec> participants;
  v1::Federation federation;
  int64_t needed = 1;                                     // updates that make a quorum
  int64_t tolerated = 0;                                  // hostile updates that the rule tolerates
  std::shared_ptr<const tensor::ModelTopology> topology;  // of the model the task starts from
  // Its values, where results are differences from them; otherwise null.
  std::shared_ptr<const std::vector<float>> start = nullptr;
  std::shared_ptr<scheduler::WorkerPool> pool;
  std::string owner = {};  // whose quota the tasks count for; "" = nobody's
  std::shared_ptr<reduce::Reducer> reducer;
  std::shared_ptr<SuspectTurn> turn = nullptr;  // null: no step is beside this one
};

class StepRunner : public StepInWork, public std::enable_shared_from_this<StepRunner> {
 public:
  StepRunner(scheduler::Fleet& fleet, base::Executor& core, base::Executor& pool,
             const base::Clock& clock, StepPlan plan, StepListener listener);
  ~StepRunner() override;

  void Start(std::vector<Upload> accepted) override;
  void Tick() override;
  void Abort(const std::string& reason) override;
  void Stop() override;
  // No worker can do what is left; as many tasks of the job's owner are in work as the quota allows,
  // and none of them is of this step; or a task is held back after losses: which one, what it asks,
  // and when it is tried next, while no other task is in work.
  std::optional<Obstacle> obstacle() const override;
  void Describe(v1::RoundProgress& progress) const override;

  std::optional<TaskInWork> InWork(const std::string& task_id) const override;
  void Accept(Upload upload, std::function<void(absl::Status)> done) override;
  bool Owns(const std::string& task_id) const override { return by_task_.contains(task_id); }

  int64_t done() const { return done_; }
  bool ended() const { return finished_ || aborted_; }

 private:
  // A participant that lost so many workers is tried alone.
  static constexpr int kLossesOfSuspect = 2;

  enum class State { kWaiting, kLeased, kMerging, kDone, kLeftOut };
  struct Participant {
    State state = State::kWaiting;
    std::string task_id;
    std::string worker;
    absl::Duration leased_at;
    // The lease was given while no other suspect of the step was out, and in careful mode nothing.
    bool alone = false;
    int losses = 0;
    std::set<std::string> lost_workers;
    absl::Duration not_before;  // of a suspect
    std::set<std::string> failed_workers;
    std::set<std::string> proven_failures;  // those of failed_workers that are proven
    std::set<std::string> ended_workers;    // proven ones that vanished with it alone
    int counted_losses = 0;                 // how often one of those did
    // For those who look.
    absl::Time assigned = absl::InfinitePast();  // last
    absl::Time arrived = absl::InfinitePast();
    absl::Time counted = absl::InfinitePast();
    int attempts = 0;
    // What last went wrong; UNSPECIFIED: nothing did.
    v1::ParticipantProgress::State trouble = v1::ParticipantProgress::STATE_UNSPECIFIED;
    std::string reason;
    std::string message;
  };
  // A loss of a task that was tried alone: whether it counts is seen a moment later.
  struct Verdict {
    size_t index;
    std::string worker;
    bool proven;
    absl::Duration at;
  };

  v1::Task TaskFor(size_t index) const;
  scheduler::QueuedTask QueuedFor(size_t index) const;
  // The suspect that is being tried, otherwise the one that is tried next.
  std::optional<size_t> NextSuspect() const;
  void OpenGroup();
  void RequestTask(size_t index);
  void OnLeased(size_t index, const v1::Task& task, const std::string& worker);
  void OnLost(size_t index, const scheduler::TaskLoss& loss);
  void OnVanished(size_t index, const scheduler::TaskLoss& loss);
  void OnFailed(size_t index, const scheduler::TaskLoss& loss, bool refused);
  void Report(size_t index, const scheduler::TaskLoss& loss);

  // Losses without results: see above.
  void CountIncident(const std::string& worker, absl::Duration now);
  bool IsDispensable(size_t index) const;
  void TrySuspects();
  // Whether no other step's suspect is out.
  bool HasTurn() const;
  // The suspect is not out any more.
  void EndTurn(bool lost);
  void JudgeLosses();
  void GiveUp(size_t index);
  void OnProgress();
  std::string Describe(size_t index) const;
  void NoteTrouble(size_t index, v1::ParticipantProgress::State trouble, const std::string& reason,
                   const std::string& message);
  v1::ParticipantProgress ProgressOf(size_t index) const;
  // "round 2", or "round 2 of ticket-3".
  std::string RoundText() const;
  // Of obstacle(): the task that is held back; "" when none is or other tasks are in work.
  std::string HeldBack() const;

  void LeaveOut(size_t index, absl::Status because);
  bool HasEligibleWorker(size_t index) const;
  int64_t Needed() const;
  void WithdrawTasks(const std::string& reason);
  // Merges an update that was accepted before the step began here.
  void Restore(Upload upload);
  using Merged = std::function<void(const absl::Status&)>;
  void Merge(size_t index, Upload upload, Merged merged);
  void OnMerged(size_t index, const v1::PartialHeader& header, const absl::Status& status,
                const std::function<void(absl::Status)>& done);
  void CloseIfReady();
  void OnDeadline();
  void ReportQuorumMissed(const std::string& decision);
  absl::Status QuorumLost() const;
  absl::StatusOr<reduce::Reduced> FinishReducer();
  void Close();
  void Fail(const absl::Status& status);

  scheduler::Fleet& fleet_;
  base::Executor& core_;
  base::Executor& pool_;
  const base::Clock& clock_;
  StepPlan plan_;
  StepListener listener_;
  std::optional<scheduler::GroupId> group_;
  std::vector<Participant> participants_;
  std::map<std::string, size_t> by_name_;
  std::map<std::string, size_t> by_task_;  // leased or being merged
  absl::Duration deadline_;
  absl::Duration last_tick_;
  int extensions_ = 0;
  int64_t done_ = 0;
  int64_t left_out_ = 0;
  int64_t refused_ = 0;  // of those left out: for refused updates alone
  int64_t leased_ = 0;
  std::optional<absl::Status> left_out_because_;  // of the participant left out last
  bool waiting_for_workers_ = false;
  std::optional<int64_t> held_by_quota_;  // so many tasks are in work
  bool starting_ = false;                 // what was accepted before is being merged
  bool finished_ = false;
  bool aborted_ = false;
  std::deque<std::function<void()>> merges_;  // wait for the one on the pool
  int64_t merging_ = 0;

  bool careful_ = false;  // one task at a time, until there is a result
  int incidents_ = 0;     // moments in which workers vanished, since the last result
  int losses_since_result_ = 0;
  std::set<std::string> lost_since_result_;
  absl::Duration last_incident_ = -absl::InfiniteDuration();
  std::deque<size_t> suspects_;  // lost twice; one at a time is handed out
  std::optional<size_t> suspect_out_;
  int pauses_ = 0;  // since the last result
  absl::Duration next_try_;
  std::vector<Verdict> verdicts_;
};

}  // namespace espalier::server::round
