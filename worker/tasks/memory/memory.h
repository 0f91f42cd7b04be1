// Memory of a worker: what there is, and what happens to a task that does not fit.
//
// Threading:   FindMemoryLimit() may be called from any thread, WithinMemory() from the one that
//              does the task.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {

// What this process may use.
struct MemoryLimit {
  int64_t bytes = 0;
  std::string source;  // "RLIMIT_AS", "the control group" or "this machine"
};

// The smallest of the limits there are. `root` stands before the paths of /proc and /sys, for
// tests.
MemoryLimit FindMemoryLimit(const std::string& root = "");

// Runs a task. Within a control group allocations fail shortly before its limit. When memory runs
// out, inside `run` or by the error it returns, `forget` lets go of what is kept between tasks.
// Errors:      those of `run`; ResourceExhausted OUT_OF_MEMORY, which says what the task takes and
//              what there is. A task that takes more than `limit` in any case is not begun.
absl::StatusOr<Partial> WithinMemory(const v1::Task& task, const MemoryLimit& limit,
                                     const std::function<absl::StatusOr<Partial>()>& run,
                                     const std::function<void()>& forget);

}  // namespace espalier::worker::tasks
