// PlannerStep: one step that the job's planner does: a question, until there is an answer that the
// program takes.
//
// The time for the answer is federation.round_deadline, and at its end on_quorum_loss says what
// follows, as for the updates of a round: EXTEND waits at most max_extensions times more and fails
// then, PROCEED goes on with no change, FAIL fails (PLANNER_SILENT). While no planner is there the
// deadline does not run, and the job has the condition WAITING_PLANNER.
// Threading:   lives on the core executor.
// Determinism: the result is the answer.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "common/base/clock.h"
#include "espalier/v1/job.pb.h"
#include "server/jobs/planning/planner_seat.h"
#include "server/round/step_in_work.h"
#include "server/round/step_runner.h"

namespace espalier::server::jobs {

class PlannerStep : public round::StepInWork, public std::enable_shared_from_this<PlannerStep> {
 public:
  // `check`: whether the program takes a decision.
  PlannerStep(const base::Clock& clock, std::shared_ptr<PlannerSeat> seat, Question question,
              v1::Federation federation, std::function<absl::Status(const std::string&)> check,
              round::StepListener listener);
  ~PlannerStep() override;

  void Start(std::vector<round::Upload> accepted) override;
  void Tick() override;
  void Stop() override {}
  void Abort(const std::string&) override { End(); }
  std::optional<round::Obstacle> obstacle() const override;
  void Describe(v1::RoundProgress& progress) const override;

  bool Owns(const std::string&) const override { return false; }
  std::optional<round::TaskInWork> InWork(const std::string&) const override {
    return std::nullopt;
  }
  void Accept(round::Upload upload, std::function<void(absl::Status)> done) override;

 private:
  void End();
  absl::Status Take(const std::string& decision);
  void OnDeadline();
  void Report(const std::string& decision) const;
  void Finish(absl::StatusOr<reduce::Reduced> result);

  const base::Clock& clock_;
  const std::shared_ptr<PlannerSeat> seat_;
  const Question question_;
  const v1::Federation federation_;
  const std::function<absl::Status(const std::string&)> check_;
  const round::StepListener listener_;
  absl::Duration deadline_;
  absl::Duration last_tick_;
  int extensions_ = 0;
  bool asked_ = false;  // between Start() and the end
};

}  // namespace espalier::server::jobs
