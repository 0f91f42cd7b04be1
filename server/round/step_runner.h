// StepRunner: carries out one step of a job: gives a task to every participant, collects their
// partials into the reducer, replaces workers that vanish, and closes when it may.
//
// A participant is a shard of the data (any worker may do it) or, with LOCAL data, one worker.
// Closing:     as soon as every participant is done or left out and a quorum is done; at the
// deadline by the
//              job's policy, once what is being merged then is merged. While no worker could do the
//              work at all, the deadline does not run.
// Losses:      a vanished worker's task goes to another one, at most max_retries times; then the
// participant
//              is left out. A reported failure is retried on other workers only; when none is left,
//              the step fails with the worker's own words (with LOCAL data: that participant is
//              left out).
// Threading:   lives on the core executor. Large merges run on the pool, one at a time.
// Determinism: the result depends only on which participants were accepted.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/clock.h"
#include "common/base/executor.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"
#include "server/reduce/reducer.h"
#include "server/scheduler/fleet.h"

namespace espalier::server::round {

// A finished upload. `source` reads the values of the body and keeps it alive; `extras` is the rest
// of it (extras.h).
struct Upload {
  v1::PartialHeader header;
  reduce::ValueSource source;
  std::string extras;
};

struct ParticipantSpec {
  std::string name;
  int32_t shard = 0;
  std::string only_worker;      // LOCAL data
  v1::BlobRef correction = {};  // of a training task; no digest: none
};

// What happened in a step, for the job's event log.
struct StepListener {
  std::function<void(const v1::Task& task)> on_sent;
  std::function<void(const v1::TaskReassigned&)> on_reassigned;
  std::function<void(const v1::UpdateRejected&)> on_rejected;
  std::function<void(const v1::QuorumMissed&)> on_quorum_missed;
  std::function<void(absl::StatusOr<reduce::Reduced>)> on_finished;
};

struct StepPlan {
  v1::Task task;  // everything but ids, participant, shard
  std::vector<ParticipantSpec> participants;
  v1::Federation federation;
  int64_t needed = 1;                                     // updates that make a quorum
  int64_t values_count = 0;                               // that a partial must carry; 0 = none
  std::shared_ptr<const tensor::ModelTopology> topology;  // of the model the task starts from
  scheduler::Requirements needs;
  std::shared_ptr<reduce::Reducer> reducer;
};

class StepRunner : public std::enable_shared_from_this<StepRunner> {
 public:
  StepRunner(scheduler::Fleet& fleet, base::Executor& core, base::Executor& pool,
             const base::Clock& clock, StepPlan plan, StepListener listener);

  void Start();
  void Tick();
  // Withdraws all tasks; on_finished is not called.
  void Abort(const std::string& reason);

  // Is this task one of ours, in work, and does the header fit the model? Cheap checks before the
  // body is read.
  absl::Status Admit(const v1::PartialHeader& header) const;
  // Merges the partial; `done` is called on the core executor once it counts (or does not).
  void Accept(Upload upload, std::function<void(absl::Status)> done);
  bool Owns(const std::string& task_id) const { return by_task_.contains(task_id); }

  int64_t done() const { return done_; }
  bool ended() const { return finished_ || aborted_; }
  bool waiting_for_workers() const { return waiting_for_workers_; }

 private:
  enum class State { kWaiting, kLeased, kMerging, kDone, kLeftOut };
  struct Participant {
    ParticipantSpec spec;
    State state = State::kWaiting;
    std::string task_id;
    std::string worker;
    absl::Duration leased_at;
    int losses = 0;
    std::set<std::string> failed_workers;
  };

  v1::Task TaskFor(const Participant& participant) const;
  void RequestTask(size_t index);
  void OnLost(size_t index, const scheduler::TaskLoss& loss);
  void LeaveOut(Participant& participant);
  void WithdrawTasks(const std::string& reason);
  void Merge(size_t index, Upload upload, std::function<void(absl::Status)> done);
  void OnMerged(size_t index, const v1::PartialHeader& header, const absl::Status& status,
                const std::function<void(absl::Status)>& done);
  bool HasEligibleWorker(const Participant& participant) const;
  void CloseIfReady();
  void OnDeadline();
  void ReportQuorumMissed(const std::string& decision);
  void Close();
  void Fail(const absl::Status& status);

  scheduler::Fleet& fleet_;
  base::Executor& core_;
  base::Executor& pool_;
  const base::Clock& clock_;
  StepPlan plan_;
  StepListener listener_;
  std::vector<Participant> participants_;
  std::map<std::string, size_t> by_task_;
  absl::Duration deadline_;
  absl::Duration last_tick_;
  int extensions_ = 0;
  int64_t done_ = 0;
  int64_t left_out_ = 0;
  std::string left_out_because_;  // what the last worker said whose own data failed
  bool waiting_for_workers_ = false;
  bool finished_ = false;
  bool aborted_ = false;
  std::deque<std::function<void()>> merges_;  // wait for the one on the pool
  int64_t merging_ = 0;
};

}  // namespace espalier::server::round
