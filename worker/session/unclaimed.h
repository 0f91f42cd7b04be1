// Unclaimed: a task and its result that the coordinator has not taken when the connection ended.
//
// A coordinator that comes back, and goes on with a step, gives the same task again under a new
// lease. A task is the same when everything is that its result depends on; then the result is handed
// in, or what is left of the computation waited for, and nothing is computed twice.
//
// Memory:    one result.
// Threading: not thread-safe.
#pragma once

#include <optional>
#include <string>

#include "espalier/v1/worker.pb.h"
#include "worker/tasks/task.h"

namespace espalier::worker::session {

// Bytes that are the same for two tasks that have the same result.
std::string KeyOf(const v1::Task& task);

class Unclaimed {
 public:
  // The result of `task`, which nobody took. Takes the place of the one before.
  void Keep(const v1::Task& task, tasks::Partial partial);
  // The result of a task that is the same as `task`, with its id and epoch; it is gone then. The
  // result of another task is forgotten: something else is wanted now.
  std::optional<tasks::Partial> Take(const v1::Task& task);
  // Whose result there is; "" when there is none.
  const std::string& job() const { return job_; }
  const std::string& participant() const { return participant_; }

 private:
  std::string key_;
  std::string job_;
  std::string participant_;
  std::optional<tasks::Partial> partial_;
};

// Makes `partial` the result of `task`, which is the same as the one that it was computed for.
void Readdress(const v1::Task& task, tasks::Partial& partial);

}  // namespace espalier::worker::session
