// Session: a worker's life with its coordinator: register, take tasks one at a time, hand results
// in, and come back after every interruption.
//
// Threading: Run() reads the stream on the calling thread; a second thread computes, a third hands
//            results in, a fourth sends heartbeats, a fifth describes data sets. The coordinator
//            gives the next task when it has a result, but acknowledges that result only when it is
//            on its disk; so a task is computed while the result before it is handed in. Each of
//            these two threads has a Transfer of its own, so that cancelling one leaves the other
//            alone. mutex_ guards what several threads see.
// Interruptions: a task in work when the connection ends is computed to its end, if it has all that
//            it needs of the coordinator. It and the results that are not acknowledged are kept
//            (results.h): if the coordinator asks for the same again, it gets that result; if it
//            asks for something else, they are forgotten and the computation ends.
// Bounds:    at most one task waits while one is in work (the coordinator gives one at a time). One
//            result is handed in at a time: the task after a large one, or the next but one after a
//            small one, begins when that has ended. At most kMaxQuestions data sets wait to be
//            described. Reconnecting backs off from 0.2 s to 5 s with jitter, for ever. Where
//            several coordinators stand in for each other, each is tried in turn, and nobody waits
//            for more than about a second.
// Policy:    with one, tasks that it does not allow are not begun, what was computed for them is not
//            handed in, and data sets that none of its rules could allow are neither offered nor
//            described, whatever the coordinator asks. It is compared with what a task says of its
//            job; the coordinator is trusted to say that right.
// Errors:    a task that the policy does not allow fails with TASK_NOT_ALLOWED. Run() returns when Stop() was called, or Leave() and its task is done (OK), or when
//            the coordinator refuses this worker for good (PROTOCOL_MISMATCH, INVALID_WORKER_ID,
//            WORKER_EXISTS that lasts; a certificate that was revoked, is another worker's or none).
#pragma once

#include <grpcpp/channel.h>

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/metrics/metrics.h"
#include "espalier/v1/worker.grpc.pb.h"
#include "worker/data/describe/description_cache.h"
#include "worker/session/results.h"
#include "worker/session/transfer.h"
#include "worker/tasks/executor.h"

namespace espalier::worker::session {

struct SessionOptions {
  std::string worker_id;
  std::string data_root;
  std::string state_dir;  // for rows of users that stay here; empty: none
  int threads = 1;
  int64_t memory_budget_bytes = 0;  // 0 = no limit
  double flops_budget = 0;          // of one task; 0 = no limit
  // How long the task in work may still take when the worker is told to leave.
  absl::Duration drain_timeout = absl::Seconds(20);
  // Most memory that a data set may take while it is read.
  int64_t max_dataset_bytes = std::numeric_limits<int64_t>::max();
  tasks::MemoryLimit memory_limit;  // what there is
  std::vector<v1::DatasetInfo> datasets;
  std::optional<v1::WorkerPolicy> policy = {};  // absent: tasks of all jobs
};

// Where a coordinator is.
struct Coordinator {
  std::string address;
  // Makes a connection anew for each attempt: a channel of gRPC that failed remembers that for a
  // while, and says so of a coordinator that is back.
  std::function<absl::StatusOr<std::shared_ptr<grpc::Channel>>()> connect;
  // Makes of an error of the connection one that says what is behind it.
  std::function<absl::Status(const absl::Status&)> explain = [](const absl::Status& status) {
    return status;
  };
};

class Session {
 public:
  // At least one coordinator; of several, those that follow stand in for the first.
  Session(SessionOptions options, std::vector<Coordinator> coordinators, metrics::Metrics& metrics);
  ~Session();

  absl::Status Run();
  // From a signal-handling thread: takes no more tasks; Run() returns once the task in work, if
  // there is one, is done and handed in, or has taken too long, or nobody is there to take it.
  void Leave();
  // From a signal-handling thread: ends the task in work, makes Run() return.
  void Stop();
  // From a signal-handling thread: this holds from now on. A task in work that it does not allow
  // ends. The worker registers anew, so that the coordinator knows.
  void SetPolicy(v1::WorkerPolicy policy);
  // From any thread: there is another certificate to be shown. Connects anew, as after an interruption.
  void Reconnect();

 private:
  using Stream = grpc::ClientReaderWriter<v1::WorkerMessage, v1::CoordinatorMessage>;
  // What is computed.
  struct InWork {
    TaskPtr task;           // under the latest lease; null: nothing
    bool disowned = false;  // it was given on a connection that has ended
    bool cancelled = false;
  };

  absl::Status RunOnce();
  void Handle(const v1::CoordinatorMessage& message);
  bool Write(const v1::WorkerMessage& message) ABSL_LOCKS_EXCLUDED(mutex_);
  void HeartbeatLoop();
  // Whether it was told to leave, and nothing is left to be done.
  bool MayLeave() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the connection so that the coordinator knows that it was on purpose.
  void SayGoodbye() ABSL_LOCKS_EXCLUDED(mutex_);
  // Answers what data sets are, one question after the other, beside the task in work.
  void DescribeLoop();
  void ComputeLoop();
  absl::StatusOr<tasks::Partial> Compute(const v1::Task& task);
  // OK where the policy allows the task. Errors: PermissionDenied TASK_NOT_ALLOWED.
  absl::Status CheckAllowed(const v1::Task& task) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Whether the policy leaves the data set to anybody.
  bool MayOffer(const std::string& dataset) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  v1::DatasetInfo Describe(const v1::DataSpec& data) ABSL_LOCKS_EXCLUDED(mutex_);
  v1::Register Registration() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void HandInLoop();
  void ReportDone(const v1::Task& task, int64_t examples);
  void ReportFailure(const v1::Task& task, const absl::Status& status, bool cancelled);
  bool WaitBeforeRetry(absl::Duration wait);

  // The coordinator gives a task: its result is there, or in work, or it is computed next.
  void Take(TaskPtr task) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CancelTask(const std::string& id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void CancelComputation() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // The connection ended.
  void Disown() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What is computed or else handed in, for the coordinator; "" when there is nothing.
  std::string IdInWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const SessionOptions options_;
  const std::vector<Coordinator> coordinators_;
  size_t coordinator_ = 0;  // the one in use, or tried next
  metrics::Metrics& metrics_;
  Transfer fetches_;      // for the task that is computed
  Transfer submissions_;  // of the result that is handed in
  tasks::TaskExecutor executor_;
  data::DescriptionCache descriptions_;
  std::atomic<bool> stop_describing_{false};

  mutable base::Mutex mutex_;
  base::CondVar changed_;
  std::optional<v1::WorkerPolicy> policy_ ABSL_GUARDED_BY(mutex_);
  bool registers_anew_ ABSL_GUARDED_BY(mutex_) = false;  // the connection ends for that alone
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool leaving_ ABSL_GUARDED_BY(mutex_) = false;
  bool says_so_ ABSL_GUARDED_BY(mutex_) = false;  // the coordinator is to be told that it leaves
  std::chrono::steady_clock::time_point leave_since_ ABSL_GUARDED_BY(mutex_);
  // The coordinator gives no tasks, as it said on the latest connection.
  bool drained_ ABSL_GUARDED_BY(mutex_) = false;
  TaskPtr next_ ABSL_GUARDED_BY(mutex_);  // waits for the compute thread
  InWork in_work_ ABSL_GUARDED_BY(mutex_);
  Results results_ ABSL_GUARDED_BY(mutex_);
  base::CondVar result_wanted_;
  bool handing_in_ ABSL_GUARDED_BY(mutex_) = false;  // the thread that does it is at work
  std::deque<v1::DescribeDataset> questions_ ABSL_GUARDED_BY(mutex_);
  Stream* stream_ ABSL_GUARDED_BY(mutex_) = nullptr;  // open and registered
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  absl::Duration heartbeat_interval_ ABSL_GUARDED_BY(mutex_) = absl::Seconds(2);
  base::Mutex write_mutex_;  // one writer at a time on the stream
  bool registered_ = false;  // of Run()'s thread alone
  std::thread compute_;
  std::thread hand_in_;
  std::thread heartbeat_;
  std::thread describe_;
};

}  // namespace espalier::worker::session
