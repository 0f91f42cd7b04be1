#include "server/jobs/job_runner.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "absl/time/time.h"
#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/wire/compact_values.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/result_sections.h"
#include "common/wire/model_spec/train_additions.h"
#include "common/wire/proto_time.h"
#include "server/datasets/agreement.h"
#include "server/jobs/site_evaluations.h"
#include "server/methods/evaluation/metrics.h"
#include "server/reduce/statistics_reducer.h"

namespace espalier::server::jobs {
namespace {

using metrics::Metric;

// Below this many stored values, work is quicker than handing it to another thread and back.
constexpr int64_t kInlineValues = 65'536;
constexpr size_t kHistoryInView = 1000;

absl::Status OutOfMemory() {
  return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                         "the coordinator ran out of memory for this job; use a smaller model, a "
                         "lower density or fewer participants, run fewer jobs at once, or give the "
                         "coordinator more memory");
}

bool IsEnd(v1::Job::State state) {
  return state == v1::Job::STATE_SUCCEEDED || state == v1::Job::STATE_FAILED ||
         state == v1::Job::STATE_CANCELLED;
}

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

// Of the language model in parts, when there is one; the model itself is empty then.
int64_t StoredParameters(const methods::ProgramState& state) {
  const methods::LanguageModel* parts = state.language.get();
  return state.model.topology->total_stored() +
         (parts == nullptr ? 0 : parts->outer_weights + parts->active_weights());
}
int64_t DenseParameters(const methods::ProgramState& state) {
  const methods::LanguageModel* parts = state.language.get();
  return state.model.topology->total_size() +
         (parts == nullptr ? 0 : parts->outer_weights + parts->linear_weights());
}

}  // namespace

JobRunner::JobRunner(Services services, v1::Job job, std::shared_ptr<scheduler::WorkerPool> pool,
                     std::shared_ptr<datasets::JobView> view,
                     std::unique_ptr<methods::Program> program)
    : services_(services),
      job_(std::move(job)),
      pool_(std::move(pool)),
      view_(std::move(view)),
      agreed_(view_ == nullptr),
      program_(std::move(program)) {
  wire::SetTimestamp(services_.clock.Wall(), job_.mutable_create_time());
  SetState(v1::Job::STATE_PENDING, "", "");
}

v1::JobEvent JobRunner::NewEvent() const {
  v1::JobEvent event;
  wire::SetTimestamp(services_.clock.Wall(), event.mutable_time());
  return event;
}

bool JobRunner::ended() const { return IsEnd(job_.state()); }

void JobRunner::SetState(v1::Job::State state, const std::string& reason,
                         const std::string& message) {
  job_.set_state(state);
  if (state == v1::Job::STATE_FAILED) {
    job_.set_failure_reason(reason);
    job_.set_failure_message(message);
  }
  if (state == v1::Job::STATE_RUNNING) {
    wire::SetTimestamp(services_.clock.Wall(), job_.mutable_start_time());
  }
  if (IsEnd(state)) {
    wire::SetTimestamp(services_.clock.Wall(), job_.mutable_end_time());
    job_.clear_conditions();
  }
  v1::JobEvent event = NewEvent();
  event.mutable_state_changed()->set_state(state);
  event.mutable_state_changed()->set_reason(reason);
  event.mutable_state_changed()->set_message(message);
  events_->Append(std::move(event));
  log::Info("job_state_changed", {{"job", job_.name()},
                                  {"state", v1::Job::State_Name(state)},
                                  {"reason", reason},
                                  {"message", message}});
  if (IsEnd(state)) events_->Close();
}

void JobRunner::SetWaiting(const std::string& message) { SetCondition("WAITING_WORKERS", message); }

void JobRunner::SetCondition(const std::string& type, const std::string& message) {
  if (message.empty()) {
    job_.clear_conditions();
    return;
  }
  if (job_.conditions_size() == 0 || job_.conditions(0).type() != type) {
    job_.clear_conditions();
    wire::SetTimestamp(services_.clock.Wall(), job_.add_conditions()->mutable_since());
    log::Warning("job_waits", {{"job", job_.name()}, {"condition", type}, {"message", message}});
  }
  job_.mutable_conditions(0)->set_type(type);
  job_.mutable_conditions(0)->set_message(message);
}

std::string JobRunner::MissingWorkers() const {
  const size_t needed = job_.spec().federation().min_workers();
  const size_t there = pool_->able().size();
  if (there >= needed) return "";
  std::string text = "waiting for " + std::to_string(needed) + " workers with data set '" +
                     pool_->needs().dataset + "'; connected now: " + std::to_string(there) +
                     " of " + std::to_string(services_.fleet.active()) +
                     " workers offer it and have the budget";
  if (view_ == nullptr) return text;
  constexpr size_t kShown = 3;
  size_t shown = 0;
  for (const auto& [worker, reason] : view_->LeftOut()) {
    if (shown++ == kShown) break;
    text.append("; ").append(worker).append(": ").append(reason);
  }
  return text;
}

void JobRunner::Tick() {
  Guard([this] { Proceed(); });
}

void JobRunner::Guard(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::bad_alloc&) {
    if (!ended()) Fail(OutOfMemory());
  }
}

void JobRunner::Proceed() {
  if (job_.state() == v1::Job::STATE_PENDING) {
    const std::string missing = MissingWorkers();
    if (missing.empty() && !agreed_) {
      AgreeOnData();
      if (!agreed_ || ended()) return;
    }
    const absl::StatusOr<std::string> memory = may_begin_ ? may_begin_(missing.empty()) : "";
    if (!memory.ok()) {
      Fail(memory.status());
      return;
    }
    if (missing.empty()) {
      SetCondition("WAITING_MEMORY", *memory);
    } else {
      SetWaiting(missing);
    }
    if (missing.empty() && memory->empty()) Begin();
    return;
  }
  if (std::exchange(stalled_, false)) RunStep();
  if (step_ == nullptr) return;
  const auto step = step_;
  step->Tick();
  if (step != step_) return;
  if (step->waiting_for_workers()) {
    SetWaiting("no connected worker can do what is left of round " +
               std::to_string(state_.round + 1) + "; " + std::to_string(services_.fleet.active()) +
               " workers are connected");
  } else {
    SetCondition("TASKS_HELD_BACK", step->held_back());
  }
}

void JobRunner::Begin() {
  SetState(v1::Job::STATE_RUNNING, "", "");
  const auto program = program_;
  Advance([program] { return program->Start(); }, true);
}

absl::Status JobRunner::Cancel() {
  if (ended()) {
    return base::FailedPrecondition(
        "JOB_ENDED", "expected a job that is PENDING or RUNNING, found " +
                         v1::Job::State_Name(job_.state()).substr(6) + " (" + job_.name() +
                         "); nothing to cancel");
  }
  SetState(v1::Job::STATE_CANCELLING, "", "");
  if (step_ != nullptr) step_->Abort("JOB_CANCELLED");
  // Without a step the pool may be reading the model; then Apply() lets go of it.
  if (step_ != nullptr || stalled_) ReleaseModel();
  SetState(v1::Job::STATE_CANCELLED, "", "");
  services_.metrics.Add(Metric::kRounds, 1, "aborted");
  return absl::OkStatus();
}

// Runs `next` and prepares what follows from it, on the pool when the model is large.
void JobRunner::Advance(std::function<absl::StatusOr<methods::Transition>()> next, bool large) {
  step_ = nullptr;
  if (!large) {
    Apply(PrepareOrFail(next));
    return;
  }
  const auto self = shared_from_this();
  services_.pool.Post([self, next = std::move(next)] {
    auto prepared = std::make_shared<absl::StatusOr<Prepared>>(self->PrepareOrFail(next));
    self->services_.core.Post(
        [self, prepared] { self->Guard([&] { self->Apply(std::move(*prepared)); }); });
  });
}

absl::StatusOr<JobRunner::Prepared> JobRunner::PrepareOrFail(
    const std::function<absl::StatusOr<methods::Transition>()>& next) const {
  try {
    return Prepare(next);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  } catch (const std::length_error&) {
    return OutOfMemory();
  }
}

void JobRunner::Apply(absl::StatusOr<Prepared> prepared) {
  if (ended()) {
    ReleaseModel();
    return;
  }
  if (!prepared.ok()) {
    Fail(prepared.status());
    return;
  }
  if (!prepared->checkpoint_status.ok()) {
    services_.metrics.Add(Metric::kCheckpointFailures);
    Fail(base::Annotate(prepared->checkpoint_status, "the checkpoint could not be written"));
    return;
  }
  services_.metrics.Observe(Metric::kAggregationDuration, prepared->prepare_seconds);
  services_.metrics.Observe(Metric::kRoundPhaseDuration, prepared->prepare_seconds, "aggregate");
  methods::Transition& transition = prepared->transition;
  if (transition.committed.has_value()) CommitRound(*prepared);
  if (transition.normalization.has_value()) {
    v1::DataSpec& data = *job_.mutable_spec()->mutable_data();
    const auto& [mean, std] = *transition.normalization;
    data.mutable_channel_mean()->Assign(mean.begin(), mean.end());
    data.mutable_channel_std()->Assign(std.begin(), std.end());
    data.set_normalization(v1::DataSpec::NORMALIZATION_GIVEN);
  }
  if (transition.prelude_step.has_value()) ReportPrelude(*std::move(transition.prelude_step));
  state_ = std::move(transition.state);
  job_.set_stored_parameters(StoredParameters(state_));
  job_.set_dense_parameters(DenseParameters(state_));
  language_ = prepared->language;
  values_ = prepared->values;
  values_type_ = prepared->values_type;
  optimizer_state_ = prepared->optimizer_state;
  topology_ = prepared->topology;
  update_ = prepared->update;
  update_base_hash_ = prepared->update_base_hash;
  corrections_ = std::move(prepared->corrections);
  if (!state_.step.has_value()) {
    ReleaseModel();
    SetState(v1::Job::STATE_SUCCEEDED, "", "");
    return;
  }
  RunStep();
}

void JobRunner::ReportPrelude(v1::PreludeStep step) {
  step.set_bytes_sent(traffic_->sent - job_.prelude_bytes_sent());
  step.set_bytes_received(traffic_->received - job_.prelude_bytes_received());
  wire::SetDuration(services_.clock.Elapsed() - prelude_start_, step.mutable_duration());
  job_.set_prelude_bytes_sent(traffic_->sent);
  job_.set_prelude_bytes_received(traffic_->received);
  v1::JobEvent event = NewEvent();
  *event.mutable_prelude_step() = std::move(step);
  events_->Append(std::move(event));
}

void JobRunner::CommitRound(Prepared& prepared) {
  v1::RoundSummary& summary = *prepared.transition.committed;
  const bool whole = prepared.transition.checkpoint != nullptr;
  const double stored =
      whole ? prepared.transition.checkpoint->topology->total_stored() : job_.stored_parameters();
  const double dense =
      whole ? prepared.transition.checkpoint->topology->total_size() : job_.dense_parameters();
  summary.set_bytes_sent(traffic_->sent - round_start_sent_);
  summary.set_bytes_received(traffic_->received - round_start_received_);
  const int64_t values = traffic_->values_sent + traffic_->values_received - round_start_values_;
  summary.set_dense_bytes(
      static_cast<int64_t>(static_cast<double>(values) * dense / std::max(1.0, stored)));
  wire::SetDuration(services_.clock.Elapsed() - round_start_, summary.mutable_duration());
  if (prepared.checkpoint.has_value()) {
    const auto& checkpoint = *prepared.checkpoint;
    job_.set_latest_checkpoint(checkpoint.name);
    services_.metrics.Observe(Metric::kCheckpointDuration, prepared.checkpoint_seconds);
    services_.metrics.Observe(Metric::kRoundPhaseDuration, prepared.checkpoint_seconds,
                              "checkpoint");
    services_.metrics.Set(Metric::kCheckpointBytes, static_cast<double>(checkpoint.size_bytes));
    v1::JobEvent event = NewEvent();
    event.mutable_checkpoint_written()->set_name(checkpoint.name);
    event.mutable_checkpoint_written()->set_round(summary.round());
    event.mutable_checkpoint_written()->set_size_bytes(checkpoint.size_bytes);
    events_->Append(std::move(event));
  }
  job_.set_round(summary.round());
  job_.set_model_hash(prepared.model_hash);
  NoteEvaluation(summary);
  v1::JobEvent event = NewEvent();
  *event.mutable_round_committed()->mutable_summary() = summary;
  events_->Append(std::move(event));
  rounds_.Note(summary, job_.best_round() == summary.round());
  services_.metrics.Add(Metric::kRounds, 1, "committed");
  services_.metrics.Set(Metric::kRoundLastCommit,
                        absl::ToDoubleSeconds(services_.clock.Wall() - absl::UnixEpoch()));
}

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

round::StepPlan JobRunner::MakePlan(const methods::Step& step) const {
  round::StepPlan plan;
  const v1::JobSpec& spec = job_.spec();
  plan.task = step.task;
  plan.task.set_job(job_.name());
  plan.task.set_round(step.round);
  *plan.task.mutable_lease() = spec.federation().round_deadline();
  *plan.task.mutable_data() = datasets::ForTasks(spec.data());
  plan.task.set_seed(spec.seed());
  const uint32_t inline_bytes = base::Limits().inline_bytes;
  v1::ModelRef& model = *plan.task.mutable_model();
  *model.mutable_spec() = spec.model();
  model.set_topology_hash(state_.model.topology->hash());
  model.set_topology_version(state_.topology_version);
  // Never inline: workers have the structure from earlier rounds, so it would be sent in vain.
  *model.mutable_topology() = RefTo(*topology_, 0);
  if (update_ != nullptr) {
    *model.mutable_topology_update() = RefTo(*update_, 0);
    model.set_update_base_hash(update_base_hash_);
  }
  *model.mutable_values() = RefTo(*values_, inline_bytes);
  model.set_values_type(values_type_);
  if (language_ != nullptr) ReferTo(*language_, *model.mutable_language());
  if (step.task.has_train() && optimizer_state_ != nullptr) {
    *model.mutable_optimizer_state() = RefTo(*optimizer_state_, inline_bytes);
  }
  plan.participants = ChooseParticipants(step);
  for (round::ParticipantSpec& participant : plan.participants) {
    const auto correction = corrections_.find(participant.name);
    if (correction == corrections_.end()) continue;
    participant.correction = RefTo(*correction->second, inline_bytes);
  }
  plan.federation = spec.federation();
  BoundExamples(step.task, plan.participants);
  const auto participants = static_cast<int64_t>(plan.participants.size());
  plan.needed = Needed(step, spec.federation(), plan.participants.size());
  if (step.reducer == reduce::ReducerKind::kMean) {
    plan.tolerated = reduce::ToleratedBy(step.aggregation, participants);
  }
  plan.topology = state_.model.topology;
  plan.pool = pool_;
  const v1::SectionType up = wire::SectionTypeOf(spec.wire().up());
  *plan.task.mutable_sections() = wire::SectionsOf(plan.task, *state_.model.topology, up);
  if (step.task.has_train() && wire::IsCompact(up)) {
    plan.start = std::make_shared<const std::vector<float>>(state_.model.values);
  }
  plan.reducer = MakeReducerFor(step, wire::ResultLayoutOf(plan.task, *state_.model.topology));
  return plan;
}

std::unique_ptr<reduce::Reducer> JobRunner::MakeReducerFor(const methods::Step& step,
                                                           const wire::ResultLayout& layout) const {
  if (step.reducer != reduce::ReducerKind::kStatistics) {
    return reduce::MakeReducer(step.reducer, state_.model.topology, layout, step.aggregation,
                               state_.model.values);
  }
  std::vector<reduce::StatisticsInput> inputs;
  for (const auto& input : step.task.activation_statistics().inputs()) {
    inputs.push_back({input.columns(), input.gram()});
  }
  return std::make_unique<reduce::StatisticsReducer>(std::move(inputs));
}

void JobRunner::RunStep() {
  const methods::Step& step = *state_.step;
  if (step.prelude) prelude_start_ = services_.clock.Elapsed();
  if (const int round = step.prelude ? 0 : step.round; round != announced_round_) {
    announced_round_ = round;
    round_start_ = services_.clock.Elapsed();
    round_start_sent_ = traffic_->sent;
    round_start_received_ = traffic_->received;
    round_start_values_ = traffic_->values_sent + traffic_->values_received;
  }
  phase_ = step.task.has_train() || step.task.has_echo() ? "train" : "evaluate";
  phase_start_ = services_.clock.Elapsed();
  AssignOwners();
  // Data or rows that only their owners have, and nobody there: begins when one comes.
  if (ChooseParticipants(step).empty()) {
    SetWaiting(MissingWorkers());
    stalled_ = true;
    return;
  }
  round::StepPlan plan = MakePlan(step);
  const bool trains = phase_ == "train" || step.task.has_activation_statistics();
  if (trains && !step.prelude) {
    v1::JobEvent event = NewEvent();
    event.mutable_round_started()->set_round(step.round);
    event.mutable_round_started()->set_participants(plan.participants.size());
    events_->Append(std::move(event));
  }
  step_ = std::make_shared<round::StepRunner>(services_.fleet, services_.core, services_.pool,
                                              services_.clock, std::move(plan), MakeListener(step));
  step_->Start();
}

void JobRunner::OnStepFinished(absl::StatusOr<reduce::Reduced> reduced, const std::string& phase) {
  services_.metrics.Observe(Metric::kRoundPhaseDuration,
                            absl::ToDoubleSeconds(services_.clock.Elapsed() - phase_start_), phase);
  if (!reduced.ok()) {
    if (base::ReasonOf(reduced.status()) == "QUORUM_LOST") {
      services_.metrics.Add(Metric::kRounds, 1, "quorum_lost");
    }
    Fail(reduced.status());
    return;
  }
  // Before the first round a method may still look through the whole dense model.
  const tensor::ModelTopology& topology = *state_.model.topology;
  const int64_t work = state_.round == 0 ? topology.total_size() : topology.total_stored();
  const bool large = work > kInlineValues || language_ != nullptr || !reduced->statistics.empty();
  auto result = std::make_shared<reduce::Reduced>(*std::move(reduced));
  const auto self = shared_from_this();
  // Next() gets a copy: Publish() compares structures with the state until Apply() replaces it.
  Advance([self, result] { return self->program_->Next(self->state_, std::move(*result)); }, large);
}

void JobRunner::Accept(round::Upload upload, std::function<void(absl::Status)> done) {
  const auto step = step_;
  const int64_t values_bytes = round::ValuesBytes(upload.header.sections());
  const auto body_bytes = static_cast<double>(upload.header.body_bytes());
  const double dense_ratio = static_cast<double>(job_.dense_parameters()) /
                             static_cast<double>(std::max<int64_t>(1, job_.stored_parameters()));
  traffic_->received +=
      static_cast<int64_t>(upload.header.body_bytes() + upload.header.ByteSizeLong());
  traffic_->values_received += values_bytes;
  const auto self = shared_from_this();
  step->Accept(std::move(upload), [self, body_bytes,
                                   dense_bytes = static_cast<double>(values_bytes) * dense_ratio,
                                   done = std::move(done)](absl::Status status) {
    if (status.ok()) {
      self->services_.metrics.Add(Metric::kUpdateBytes, body_bytes, "actual");
      self->services_.metrics.Add(Metric::kUpdateBytes, dense_bytes, "dense_equivalent");
    }
    done(std::move(status));
  });
}

void JobRunner::Fail(const absl::Status& status) {
  if (step_ != nullptr) step_->Abort("JOB_FAILED");
  ReleaseModel();
  SetState(v1::Job::STATE_FAILED, base::ReasonOf(status), base::MessageOf(status));
  services_.metrics.Add(Metric::kRounds, 1, "aborted");
}

// The record of a job stays for long; its model need not.
void JobRunner::ReleaseModel() {
  step_ = nullptr;
  stalled_ = false;
  state_ = {};
  values_ = optimizer_state_ = topology_ = update_ = nullptr;
  corrections_.clear();
  language_ = nullptr;
  // New workers need not describe what nobody will train on any more.
  view_ = nullptr;
  pool_ = nullptr;
}

v1::Job JobRunner::View(bool with_history) const {
  v1::Job view = job_;
  if (with_history) {
    for (size_t i = rounds_.size() - std::min(rounds_.size(), kHistoryInView); i < rounds_.size();
         ++i) {
      *view.add_history() = rounds_.At(i);
    }
  } else {
    view.clear_last_sites();
    view.clear_best_sites();
    view.clear_confusion();
  }
  return view;
}

}  // namespace espalier::server::jobs
