// LinkedWorker: a worker that reaches the coordinator over a link and by messages alone. It does
// what worker/session/session.h says, with that session's own Results: it computes one task while
// the result before it is handed in, keeps what nobody acknowledged when the connection ends, and
// comes back after every interruption. Two things it does more readily: it sends an update again,
// under the same id, whose answer is late; and after a connection that ended before the answer it
// may send the update again without being asked. Tasks are done by the rule of FakeTasks.
//
// It outlives coordinators. A new one is found behind `door`.
// Threading:   one thread, the test's.
// Determinism: what it does follows from its seed and the test's calls.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/base/rng.h"
#include "server/jobs/job_manager.h"
#include "server/round/blob_store.h"
#include "server/scheduler/fleet.h"
#include "tests/support/fake_worker.h"
#include "tests/support/link.h"
#include "worker/session/results.h"

namespace espalier::test {

// Where messages reach a coordinator. It goes with the coordinator.
struct Door {
  server::scheduler::Fleet& fleet;
  server::jobs::JobManager& jobs;
  server::round::BlobStore& blobs;
};

// Hears what a coordinator says, when it says it.
struct Witness {
  std::function<void(const v1::Task& task)> task;
  std::function<void(const v1::PartialHeader& header, const absl::Status& status, bool duplicate)>
      answer;
};

class LinkedWorker {
 public:
  LinkedWorker(std::string id, std::string dataset, Link& link, const std::shared_ptr<Door>& door,
               const Witness& witness, uint64_t seed);

  // A second passes.
  void Tick();
  // Does one thing that needs nobody else: begins a task, completes it, or hands a result in. False:
  // there is nothing to be done.
  bool Act();

  // The coordinator was killed. What it had said may still arrive, and the worker notices after it.
  void CoordinatorDied();
  // The connection is cut with all that was on its way. A coordinator that does not notice waits for
  // heartbeats.
  void Cut(bool coordinator_notices);
  // The process is killed, and another one begins. What it had said still arrives.
  void Die();

  const std::string& id() const { return id_; }
  bool connected() const { return registered_; }
  // Nothing is in work, and no answer is waited for. It may keep a result that nobody asks for.
  bool idle() const;
  // Updates that were sent more than once.
  int repeats() const { return repeats_; }

 private:
  class End;
  using TaskPtr = worker::session::TaskPtr;
  struct Connection {
    std::weak_ptr<Door> door;
    server::scheduler::SessionKey session;  // as the coordinator knows it
  };
  using ConnectionPtr = std::shared_ptr<Connection>;
  // One attempt to hand an update in.
  struct Attempt {
    Update update;
    bool asks_first = false;  // the body follows once the header is answered
    bool admitted = false;    // by the coordinator
  };
  using AttemptPtr = std::shared_ptr<Attempt>;
  // An update that is handed in until it is answered.
  struct Call {
    AttemptPtr attempt;
    int patience = 0;
  };
  struct InWork {
    TaskPtr task;   // under the latest lease
    TaskPtr given;  // as it was when it began: another lease may name the structure otherwise
    bool disowned = false;
    std::vector<v1::BlobRef> missing;  // the first one was asked for
    std::map<std::string, std::string> blobs;
    int patience = 0;
  };

  // What the worker does.
  void Connect();
  void Hear(const ConnectionPtr& connection, const v1::CoordinatorMessage& message);
  void Take(TaskPtr task);
  void CancelTask(const std::string& task_id);
  void Lost(const ConnectionPtr& connection);
  void Begin();
  void Complete();
  void HandIn();
  void Ask();
  void Fetched(const ConnectionPtr& connection, const std::string& digest,
               const std::shared_ptr<const server::round::Blob>& blob);
  void Send(Call& call, Update update);
  void Answered(const ConnectionPtr& connection, const AttemptPtr& attempt,
                const absl::Status& status);
  void Fail(const v1::Task& task, const std::string& reason);
  void Say(const std::function<void(Door& door, const ConnectionPtr& connection)>& arrive);
  int Draw(int from, int to) { return from + static_cast<int>(rng_.Below(to - from + 1)); }

  // What happens at the coordinator's end.
  void Arrive(Door& door, const ConnectionPtr& connection, const v1::Register& hello);
  void ArriveHeader(Door& door, const ConnectionPtr& connection, const AttemptPtr& attempt);
  void ArriveBody(Door& door, const ConnectionPtr& connection, const AttemptPtr& attempt);
  void Answer(const ConnectionPtr& connection, const AttemptPtr& attempt,
              const absl::Status& status, bool duplicate);

  const std::string id_;
  const std::string dataset_;
  Link& link_;
  const std::shared_ptr<Door>& door_;  // null: there is no coordinator
  const Witness& witness_;
  base::Rng rng_;
  ConnectionPtr connection_;  // null: there is none
  bool registered_ = false;   // it was welcomed
  server::scheduler::SessionKey session_;
  int seconds_ =
      0;  // since the last heartbeat, of waiting for a welcome, or until the next attempt
  TaskPtr next_;
  InWork in_work_;
  worker::session::Results results_;
  Call call_;       // of the result that is handed in
  Call unasked_;    // of an update of an earlier connection
  Update unheard_;  // whose answer the connection did not bring
  FakeTasks tasks_;
  int updates_ = 0;
  int repeats_ = 0;
};

}  // namespace espalier::test
