// What steps of a job are: who does them, with which tasks, and what becomes of their results.
#include <algorithm>
#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/limits.h"
#include "common/base/rng.h"
#include "common/wire/compact_values.h"
#include "common/wire/model_spec/frozen.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/result_sections.h"
#include "common/wire/proto_time.h"
#include "server/datasets/agreement.h"
#include "server/jobs/job_runner.h"
#include "server/jobs/planning/planner_step.h"
#include "server/reduce/statistics_reducer.h"

namespace espalier::server::jobs {
namespace {

v1::BlobRef RefTo(const round::Blob& blob, uint32_t inline_bytes) {
  v1::BlobRef ref;
  ref.set_digest(blob.digest);
  ref.set_size_bytes(blob.bytes().size());
  if (blob.bytes().size() <= inline_bytes) ref.set_inline_(std::string(blob.bytes()));
  return ref;
}

// Share of the step's participants that must deliver.
int64_t Needed(const methods::Step& step, const v1::Federation& federation, size_t participants) {
  if (step.participants == methods::Participants::kAnyOne) return 1;
  const double needed = std::ceil(federation.quorum() * static_cast<double>(participants) - 1e-9);
  return std::max<int64_t>(1, static_cast<int64_t>(needed));
}

}  // namespace

void JobRunner::AssignOwners() {
  const v1::Partition& partition = job_.spec().data().partition();
  if (!job_.spec().model().recommender().private_users() ||
      partition.kind() == v1::Partition::KIND_LOCAL) {
    return;
  }
  const std::vector<std::string> workers(pool_->able().begin(), pool_->able().end());
  if (workers.empty() || !owners_.empty()) return;
  for (int shard = 0; shard < partition.shards(); ++shard) {
    owners_[shard] = workers[static_cast<size_t>(shard) % workers.size()];
  }
}

std::vector<round::ParticipantSpec> JobRunner::ChooseParticipants(const methods::Step& step) const {
  std::vector<round::ParticipantSpec> all;
  const v1::Partition& partition = job_.spec().data().partition();
  if (step.participants == methods::Participants::kAnyOne) {
    return {{"central", 0, ""}};
  }
  if (step.participants == methods::Participants::kPlanner) {
    return {{"planner", 0, ""}};
  }
  if (partition.kind() == v1::Partition::KIND_LOCAL) {
    for (const std::string& id : pool_->able()) {
      all.push_back({id, 0, id});
    }
  } else if (job_.spec().model().recommender().private_users()) {
    for (const auto& [shard, worker] : owners_) {
      all.push_back({"shard-" + std::to_string(shard), shard, worker});
    }
  } else {
    for (int shard = 0; shard < partition.shards(); ++shard) {
      all.push_back({"shard-" + std::to_string(shard), shard, ""});
    }
  }
  const int cohort = job_.spec().federation().cohort_size();
  if (step.participants == methods::Participants::kAll || cohort == 0 ||
      cohort >= static_cast<int>(all.size())) {
    return all;
  }
  base::Rng rng(base::StreamKey(job_.spec().seed(), "cohort", {static_cast<uint64_t>(step.round)}));
  base::Shuffle(std::span(all), rng);
  all.resize(cohort);
  return all;
}

std::vector<round::ParticipantSpec> JobRunner::ParticipantsOf(const methods::Step& step,
                                                              const Branch& branch) const {
  return branch.participants.empty() ? ChooseParticipants(step) : branch.participants;
}

v1::Federation JobRunner::FederationOfSteps() const {
  v1::Federation federation = job_.spec().federation();
  const auto steps = static_cast<int64_t>(branches_.size());
  if (steps > 1) {
    wire::SetDuration(wire::FromProto(federation.round_deadline()) * steps,
                      federation.mutable_round_deadline());
  }
  return federation;
}

round::StepPlan JobRunner::MakePlan(const methods::ProgramState& state,
                                    const Branch& branch) const {
  const methods::Step& step = *state.step;
  const PublishedModel& published = branch.model;
  round::StepPlan plan;
  const v1::JobSpec& spec = job_.spec();
  plan.task = step.task;
  plan.task.set_job(job_.name());
  plan.task.set_round(step.round);
  plan.task.set_run(state.run);
  plan.task.set_submitter(job_.owner());
  plan.task.set_method(spec.method().name());
  *plan.task.mutable_lease() = spec.federation().round_deadline();
  *plan.task.mutable_data() = datasets::ForTasks(spec.data());
  plan.task.set_seed(spec.seed());
  const uint32_t inline_bytes = base::Limits().inline_bytes;
  v1::ModelRef& model = *plan.task.mutable_model();
  *model.mutable_spec() = state.model_spec == nullptr ? spec.model() : *state.model_spec;
  model.set_topology_hash(state.model.topology->hash());
  model.set_topology_version(state.topology_version);
  // Never inline: workers have the structure from earlier rounds, so it would be sent in vain.
  *model.mutable_topology() = RefTo(*published.topology, 0);
  if (published.update != nullptr) {
    *model.mutable_topology_update() = RefTo(*published.update, 0);
    model.set_update_base_hash(published.update_base_hash);
  }
  *model.mutable_values() = RefTo(*published.values, inline_bytes);
  model.set_values_type(published.values_type);
  if (published.language != nullptr) ReferTo(*published.language, *model.mutable_language());
  if (step.task.has_train() && published.optimizer_state != nullptr) {
    *model.mutable_optimizer_state() = RefTo(*published.optimizer_state, inline_bytes);
  }
  plan.participants = ParticipantsOf(step, branch);
  for (round::ParticipantSpec& participant : plan.participants) {
    const auto correction = published.corrections.find(participant.name);
    if (correction == published.corrections.end()) continue;
    participant.correction = RefTo(*correction->second, inline_bytes);
  }
  plan.federation = FederationOfSteps();
  if (branch.participants.empty()) BoundExamples(step.task, plan.participants);
  const auto participants = static_cast<int64_t>(plan.participants.size());
  plan.needed = Needed(step, spec.federation(), plan.participants.size());
  if (step.reducer == reduce::ReducerKind::kMean) {
    plan.tolerated = reduce::ToleratedBy(step.aggregation, participants);
  }
  plan.topology = state.model.topology;
  plan.pool = pool_;
  plan.owner = job_.owner();
  const v1::SectionType up = wire::SectionTypeOf(spec.wire().up());
  *plan.task.mutable_sections() = wire::SectionsOf(plan.task, *state.model.topology, up);
  if (step.task.has_train() && wire::IsCompact(up)) {
    plan.start = std::make_shared<const std::vector<float>>(state.model.values);
  }
  plan.reducer = MakeReducerFor(state, wire::ResultLayoutOf(plan.task, *state.model.topology));
  return plan;
}

std::unique_ptr<reduce::Reducer> JobRunner::MakeReducerFor(const methods::ProgramState& state,
                                                           const wire::ResultLayout& layout) const {
  const methods::Step& step = *state.step;
  if (step.reducer != reduce::ReducerKind::kStatistics) {
    std::span<const float> reference = state.model.values;
    std::vector<float> learned;
    const wire::LearnedPart part(step.task.train().training(), *state.model.topology);
    if (!part.is_whole()) reference = learned = part.Of(reference);
    return reduce::MakeReducer(step.reducer, state.model.topology, layout, step.aggregation,
                               reference);
  }
  std::vector<reduce::StatisticsInput> inputs;
  for (const auto& input : step.task.activation_statistics().inputs()) {
    inputs.push_back({input.columns(), input.gram()});
  }
  return std::make_unique<reduce::StatisticsReducer>(std::move(inputs));
}

void JobRunner::RunSteps() {
  if (WaitsForStorage()) {
    stalled_ = true;
    return;
  }
  AssignOwners();
  const auto in_work = StepsInWork(*state_);
  bool can_begin = true;
  for (size_t i = 0; i < branches_.size(); ++i) {
    StartClocks(*in_work[i]->step, *branches_[i]);
    can_begin = can_begin && !ParticipantsOf(*in_work[i]->step, *branches_[i]).empty();
  }
  // Data or rows that only their owners have, and nobody there: begins when one comes.
  if (!can_begin) {
    SetWaiting(MissingWorkers());
    stalled_ = true;
    return;
  }
  // All are made before the first begins, since a step may end the job at once.
  const Branches branches = branches_;
  const auto turn = branches.size() > 1 ? std::make_shared<round::SuspectTurn>() : nullptr;
  for (size_t i = 0; i < branches.size(); ++i) MakeStep(*in_work[i], branches[i], turn);
  for (const auto& branch : branches) {
    if (at_rest() || branch->step == nullptr) return;
    const auto step = branch->step;
    step->Start(TakeAccepted(branch->run));
  }
}

void JobRunner::StartClocks(const methods::Step& step, Branch& branch) const {
  const round::Traffic& traffic = *branch.traffic;
  const bool trains = step.task.has_train() || step.task.has_echo();
  const bool plans = step.participants == methods::Participants::kPlanner;
  branch.phase = trains ? "train" : plans ? "plan" : "evaluate";
  branch.phase_start = services_.clock.Elapsed();
  EnterPhase(branch, branch.phase);
  // One that had begun in another process goes on counting.
  const bool begins = branch.participants.empty();
  if (step.prelude && begins) branch.prelude_start = services_.clock.Elapsed();
  const int round = step.prelude ? 0 : step.round;
  if (round == std::exchange(branch.announced_round, round)) return;
  v1::RoundProgress& progress = branch.progress;
  progress.clear_participants();
  progress.clear_participants_left_out();
  progress.set_job(job_.name());
  progress.set_round(round);
  progress.set_run(branch.run);
  *progress.mutable_start_time() = progress.phase_start_time();
  branch.round_is_open = round > 0;
  branch.round_start = services_.clock.Elapsed();
  branch.round_start_sent = traffic.sent;
  branch.round_start_received = traffic.received;
  branch.round_start_values = traffic.values_sent + traffic.values_received;
}

void JobRunner::MakeStep(const methods::ProgramState& state, const std::shared_ptr<Branch>& branch,
                         const std::shared_ptr<round::SuspectTurn>& turn) {
  const methods::Step& step = *state.step;
  if (step.participants == methods::Participants::kPlanner) {
    branch->step = MakePlannerStep(state, branch);
    return;
  }
  round::StepPlan plan = MakePlan(state, *branch);
  plan.turn = turn;
  const bool begins = branch->participants.empty();
  branch->participants = plan.participants;
  const bool trains = branch->phase == "train" || step.task.has_activation_statistics();
  if (begins) Touch();
  if (begins && trains && !step.prelude) {
    v1::JobEvent event = NewEvent();
    event.mutable_round_started()->set_round(step.round);
    event.mutable_round_started()->set_participants(plan.participants.size());
    event.mutable_round_started()->set_run(state.run);
    Emit(std::move(event));
  }
  branch->step = std::make_shared<round::StepRunner>(services_.fleet, services_.core,
                                                     services_.pool, services_.clock,
                                                     std::move(plan), MakeListener(step, branch));
}

std::shared_ptr<round::StepInWork> JobRunner::MakePlannerStep(
    const methods::ProgramState& state, const std::shared_ptr<Branch>& branch) {
  const int32_t round = state.step->round;
  Question question;
  question.id = (state.run.empty() ? "" : state.run + "-") + "round-" + std::to_string(round);
  question.run = state.run;
  question.round = round;
  question.structure = branch->model.structure;
  question.values = branch->model.values;
  const auto check = [weak = weak_from_this(), run = state.run](const std::string& decision) {
    const auto self = weak.lock();
    return self == nullptr ? absl::OkStatus() : self->CheckDecision(run, decision);
  };
  return std::make_shared<PlannerStep>(services_.clock, planner_, std::move(question),
                                       FederationOfSteps(), check,
                                       MakeListener(*state.step, branch));
}

absl::Status JobRunner::CheckDecision(const std::string& run, const std::string& decision) const {
  for (const methods::ProgramState* state : StepsInWork(*state_)) {
    if (state->run == run) return program_->CheckDecision(*state, decision);
  }
  return absl::OkStatus();  // the job has ended
}

}  // namespace espalier::server::jobs
