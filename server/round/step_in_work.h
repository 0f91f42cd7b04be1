// StepInWork: a step of a job that somebody does: workers (step_runner.h) or a planner
// (jobs/planning/planner_step.h).
//
// Ownership:   whoever calls Start() keeps it until its listener's on_finished, or calls Abort().
// Threading:   lives on the core executor.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "espalier/v1/progress.pb.h"
#include "espalier/v1/worker.pb.h"
#include "server/round/upload.h"

namespace espalier::server::round {

struct ParticipantSpec {
  std::string name;
  int32_t shard = 0;
  std::string only_worker;      // LOCAL data
  v1::BlobRef correction = {};  // of a training task; no digest: none
  // Examples that its update can be about; 0 = not known.
  int64_t most_examples = 0;
};

// A task that a worker does, for the checks of its result (admission/update_gate.h). Borrowed from
// its step until that does something.
struct TaskInWork {
  const v1::Task& task;       // with the sections of its result
  int64_t most_examples = 0;  // as in ParticipantSpec
};

// Why a step does not go on: a condition of its job.
struct Obstacle {
  std::string type;     // Condition.type
  std::string message;  // for people
};

class StepInWork {
 public:
  virtual ~StepInWork() = default;
  // `accepted`: updates of its participants that count already.
  virtual void Start(std::vector<Upload> accepted) = 0;
  // Lets deadlines pass.
  virtual void Tick() = 0;
  // Nobody is given anything to do any more; Abort() follows.
  virtual void Stop() = 0;
  // Ends it; on_finished is not called.
  virtual void Abort(const std::string& reason) = 0;
  // What keeps it from going on at present.
  virtual std::optional<Obstacle> obstacle() const = 0;
  // Adds what it has come to, and who has done what in it, to the progress of its round; `phase` is
  // set there.
  virtual void Describe(v1::RoundProgress& progress) const = 0;

  // Uploads of workers. Whether a task is one of this step's, in work:
  virtual bool Owns(const std::string& task_id) const = 0;
  // What a result of the task is held against; nullopt: none is wanted any more.
  virtual std::optional<TaskInWork> InWork(const std::string& task_id) const = 0;
  // Merges the partial, whose header was found right; `done` is called on the core executor once it counts (or does not), before
  // anything follows from it.
  virtual void Accept(Upload upload, std::function<void(absl::Status)> done) = 0;
};

}  // namespace espalier::server::round
