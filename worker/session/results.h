// Results: what a worker has computed and the coordinator has not acknowledged yet.
//
// The next task may be computed while one result is handed in. A result that nobody took when the
// connection ended is kept: a coordinator that comes back, and goes on with a step, gives the same
// task again under a new lease. A task is the same when everything is that its result depends on;
// then the result is handed in, and nothing is computed twice.
//
// Memory:    two results, of which at least one is small: HasRoom() says when a task may begin.
// Threading: not thread-safe; but what Next() returned may be read without a lock until End().
#pragma once

#include <cstddef>
#include <list>
#include <memory>
#include <string>

#include "espalier/v1/worker.pb.h"
#include "worker/tasks/task.h"

namespace espalier::worker::session {

// Bytes that are the same for two tasks that have the same result.
std::string KeyOf(const v1::Task& task);

using TaskPtr = std::shared_ptr<const v1::Task>;

class Results {
 public:
  // A larger body is handed in before the next task begins, since budgets of memory count one
  // result.
  static constexpr size_t kSmallBytes = size_t{256} * 1024;

  struct Result {
    TaskPtr task;  // of the lease under which it is handed in
    tasks::Partial partial;
    bool wanted = false;  // by the coordinator that there is a connection with
    bool cancelled = false;
    TaskPtr lease = nullptr;  // of the attempt under way; null: there is none
    bool forgotten = false;   // goes when the attempt under way has ended
  };

  // What becomes of a result when an attempt to hand it in has ended.
  enum class Fate {
    kOver,   // it is gone: taken, refused or cancelled
    kKept,   // the connection ended, and somebody may ask for it
    kAgain,  // somebody has asked for it meanwhile
  };

  // Whether a task may begin now.
  bool HasRoom() const;
  // The result of `task`. One that nobody wants is kept.
  void Add(TaskPtr task, tasks::Partial partial, bool wanted);
  // A coordinator asks for `task`. True: its result is here, and wanted under this lease.
  bool Claim(const TaskPtr& task);
  // The connection ended: nobody wants any of them any more. They are kept.
  void Disown();
  // Something else is asked for: what nobody wants goes.
  void Forget();
  // The task with this id is wanted no more. True: an attempt to hand it in is under way.
  bool Cancel(const std::string& task_id);

  // The one to be handed in, or that is being handed in; null when there is none.
  const Result* wanted() const;
  // The one that came last; null when there is none.
  const Result* newest() const;

  // Begins an attempt to hand in wanted(), whose header is of its lease from then on. There is no
  // other attempt.
  const Result& Begin();
  // The attempt has ended; `taken`: with success.
  Fate End(bool taken);

 private:
  std::list<Result> results_;
};

}  // namespace espalier::worker::session
