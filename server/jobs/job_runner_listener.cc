// What a step of a job tells the job: events for its log, traffic, and what an evaluation found.
#include <memory>
#include <string>
#include <utility>

#include "common/log/log.h"
#include "common/wire/model_spec/train_additions.h"
#include "server/jobs/job_runner.h"
#include "server/jobs/site_evaluations.h"
#include "server/methods/evaluation/metrics.h"

namespace espalier::server::jobs {

round::StepListener JobRunner::MakeListener(const methods::Step& step,
                                            const std::shared_ptr<Branch>& branch) {
  const auto weak = weak_from_this();
  // A callback of a step may come after its job ended; then nobody listens any more.
  const auto append = [weak](auto fill) {
    if (const auto self = weak.lock(); self && !self->at_rest()) {
      v1::JobEvent event = self->NewEvent();
      fill(event);
      self->Emit(std::move(event));
    }
  };
  round::StepListener listener;
  listener.on_sent = [traffic = branch->traffic](const v1::Task& task) {
    traffic->sent += static_cast<int64_t>(task.ByteSizeLong());
    traffic->values_sent += static_cast<int64_t>(
        task.model().values().inline_().size() + task.model().optimizer_state().inline_().size() +
        wire::AdditionOf(task.train(), v1::TrainAddition::kCorrection)
            .correction()
            .values()
            .inline_()
            .size());
  };
  listener.on_reassigned = [append, job = job_.name()](const v1::TaskReassigned& reassigned) {
    log::Warning("task_reassigned", {{"job", job},
                                     {"round", reassigned.round()},
                                     {"run", reassigned.run()},
                                     {"participant", reassigned.participant()},
                                     {"worker", reassigned.worker()},
                                     {"reason", reassigned.reason()},
                                     {"message", reassigned.message()}});
    append([&](v1::JobEvent& event) { *event.mutable_task_reassigned() = reassigned; });
  };
  listener.on_rejected = [append](const v1::UpdateRejected& rejected) {
    append([&](v1::JobEvent& event) { *event.mutable_update_rejected() = rejected; });
  };
  listener.on_quorum_missed = [append, job = job_.name(),
                               &metrics = services_.metrics](const v1::QuorumMissed& missed) {
    metrics.Add(metrics::Metric::kQuorumMissed, 1, missed.decision());
    log::Warning("quorum_missed", {{"job", job},
                                   {"round", missed.round()},
                                   {"run", missed.run()},
                                   {"arrived", missed.arrived()},
                                   {"needed", missed.needed()},
                                   {"decision", missed.decision()}});
    append([&](v1::JobEvent& event) { *event.mutable_quorum_missed() = missed; });
  };
  const bool at_sites = step.task.has_evaluate() &&
                        step.participants == methods::Participants::kAll &&
                        job_.spec().data().partition().kind() == v1::Partition::KIND_LOCAL;
  const bool is_evaluation = step.task.has_evaluate();
  // Weak, since the branch holds the step that holds this.
  listener.on_finished = [weak, weak_branch = std::weak_ptr(branch), at_sites,
                          is_evaluation](absl::StatusOr<reduce::Reduced> reduced) {
    const auto self = weak.lock();
    const auto branch = weak_branch.lock();
    if (self == nullptr || branch == nullptr || self->at_rest()) return;
    self->Guard([&] {
      if (is_evaluation && reduced.ok()) {
        branch->confusion = methods::ConfusionOf(self->job_.spec(), reduced->counts);
      }
      if (at_sites && reduced.ok()) {
        branch->sites = EvaluationsOf(reduced->by_participant, self->job_.spec());
      }
      self->OnStepFinished(std::move(reduced), *branch);
    });
  };
  return listener;
}

}  // namespace espalier::server::jobs
