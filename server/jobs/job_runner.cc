#include "server/jobs/job_runner.h"

#include <algorithm>
#include <new>
#include <stdexcept>
#include <utility>

#include "absl/time/time.h"
#include "common/base/check.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/wire/proto_time.h"
#include "server/jobs/update_ledger.h"

namespace espalier::server::jobs {
namespace {

using metrics::Metric;

// Below this many stored values, work is quicker than handing it to another thread and back.
constexpr int64_t kInlineValues = 65'536;
constexpr size_t kHistoryInView = 1000;
constexpr absl::Duration kBetweenTries = absl::Seconds(1);
constexpr char kTasksHeldBack[] = "TASKS_HELD_BACK";

absl::Status OutOfMemory() {
  return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                         "the coordinator ran out of memory for this job; use a smaller model, a "
                         "lower density or fewer participants, run fewer jobs at once, or give the "
                         "coordinator more memory");
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
      has_data_(view_ != nullptr),
      agreed_(view_ == nullptr),
      program_(std::move(program)) {
  if (program_->asks_planner()) {
    planner_ = std::make_shared<PlannerSeat>(services_.clock, base::Limits().planner_lease);
  }
  source_ = services_.checkpoints.Use(job_.spec().model().pretrained());
  wire::SetTimestamp(services_.clock.Wall(), job_.mutable_create_time());
  SetState(v1::Job::STATE_PENDING, "", "");
}

void JobRunner::Emit(v1::JobEvent event) {
  events_->Append(std::move(event));
  Touch();
}

void JobRunner::Touch() {
  if (forgotten_) return;
  if (!services_.journal.keeps()) {
    events_->Show(events_->last_sequence());
    return;
  }
  // The first event is of the constructor; KeepAs() follows.
  if (const auto self = weak_from_this().lock()) services_.journal.Touch(self);
}

v1::JobEvent JobRunner::NewEvent() const {
  v1::JobEvent event;
  wire::SetTimestamp(services_.clock.Wall(), event.mutable_time());
  return event;
}

std::string JobRunner::MissingWorkers() const {
  const size_t needed = job_.spec().federation().min_workers();
  const size_t there = pool_->able().size();
  if (there >= needed) return "";
  std::string text = "waiting for " + std::to_string(needed) + " workers with data set '" +
                     pool_->needs().dataset + "'; connected now: " + std::to_string(there) +
                     " of " + std::to_string(services_.fleet.active()) +
                     " workers offer it and have the budget" + services_.fleet.AndIdled() +
                     services_.fleet.AndRefusing(pool_->needs());
  if (view_ == nullptr) return text;
  constexpr size_t kShown = 3;
  size_t shown = 0;
  for (const auto& [worker, reason] : view_->LeftOut()) {
    // These are counted already.
    if (!services_.fleet.RefusedBy(worker, *pool_->needs().job).empty()) continue;
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
    if (!at_rest()) Fail(OutOfMemory());
  }
}

void JobRunner::Proceed() {
  if (program_ == nullptr || at_rest() || failing_) return;
  if (job_.state() == v1::Job::STATE_PENDING) {
    const std::string missing = MissingWorkers();
    if (missing.empty() && !agreed_) {
      AgreeOnData();
      if (!agreed_ || at_rest()) return;
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
  if (saved_state_.has_value()) {
    if (resuming_) return;
    const absl::StatusOr<std::string> memory = may_begin_ ? may_begin_(true) : "";
    if (!memory.ok()) {
      Hold(memory.status());
      return;
    }
    SetCondition("WAITING_MEMORY", *memory);
    if (memory->empty()) Resume();
    return;
  }
  if (held_back_ != nullptr) {
    KeepHeldBack();
    return;
  }
  if (next_again_) {
    if (services_.clock.Elapsed() < try_again_) return;
    next_again_ = false;
    Advance(next_, true, true);
    return;
  }
  if (std::exchange(stalled_, false)) RunSteps();
  // A copy: a step that ends may begin the next ones.
  const Branches branches = branches_;
  std::optional<round::Obstacle> obstacle;
  for (const auto& branch : branches) {
    const auto step = branch->step;
    if (step == nullptr) continue;
    step->Tick();
    if (branches != branches_ || at_rest()) return;
    if (step != branch->step) continue;
    // That somebody is missing says more than that a task is held back.
    const auto found = step->obstacle();
    if (found.has_value() && (!obstacle.has_value() || obstacle->type == kTasksHeldBack)) {
      obstacle = found;
    }
  }
  if (!HasStep()) return;
  // That nothing can be written says more than that somebody is missing.
  if (WaitsForStorage()) return;
  SetCondition(obstacle ? obstacle->type : "", obstacle ? obstacle->message : "");
}

bool JobRunner::HasStep() const {
  return std::any_of(branches_.begin(), branches_.end(),
                     [](const auto& branch) { return branch->step != nullptr; });
}

Branch* JobRunner::OwnerOf(const std::string& task_id) const {
  for (const auto& branch : branches_) {
    if (branch->step != nullptr && branch->step->Owns(task_id)) return branch.get();
  }
  return nullptr;
}

std::optional<round::TaskInWork> JobRunner::InWork(const std::string& task_id) const {
  return OwnerOf(task_id)->step->InWork(task_id);
}

void JobRunner::Begin() {
  SetState(v1::Job::STATE_RUNNING, "", "");
  const auto program = program_;
  Advance([program] { return program->Start(); }, true, true);
}

// Runs `next` and prepares what follows from it, on the pool when the model is large.
void JobRunner::Advance(Next next, bool large, bool repeatable) {
  next_ = repeatable ? next : nullptr;
  if (large) {
    preparing_ = true;
    services_.pool.Post([self = shared_from_this(), next = std::move(next)] {
      absl::StatusOr<Prepared> prepared = self->PrepareOrFail(next);
      if (prepared.ok() && self->WritesCheckpoint(prepared->transition)) {
        self->KeepWithFiles(std::move(prepared));
      } else {
        self->ApplyOnCore(self->KeepOrFail(std::move(prepared)));
      }
    });
    return;
  }
  absl::StatusOr<Prepared> prepared = PrepareOrFail(next);
  if (prepared.ok() && WritesCheckpoint(prepared->transition)) {
    preparing_ = true;
    KeepWithFiles(std::move(prepared));
  } else {
    Apply(KeepOrFail(std::move(prepared)));
  }
}

void JobRunner::KeepWithFiles(absl::StatusOr<Prepared> prepared) {
  const auto kept = std::make_shared<absl::StatusOr<Prepared>>(std::move(prepared));
  services_.files.Post(
      [self = shared_from_this(), kept] { self->ApplyOnCore(self->KeepOrFail(std::move(*kept))); });
}

void JobRunner::ApplyOnCore(absl::StatusOr<Prepared> prepared) {
  const auto kept = std::make_shared<absl::StatusOr<Prepared>>(std::move(prepared));
  services_.core.Post(
      [self = shared_from_this(), kept] { self->Guard([&] { self->Apply(std::move(*kept)); }); });
}

absl::StatusOr<JobRunner::Prepared> JobRunner::KeepOrFail(absl::StatusOr<Prepared> prepared) const {
  if (!prepared.ok()) return prepared;
  try {
    KeepModels(*prepared);
  } catch (const std::bad_alloc&) {
    return OutOfMemory();
  } catch (const std::length_error&) {
    return OutOfMemory();
  }
  return prepared;
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
  preparing_ = false;
  if (still()) {
    for (const auto& then : std::exchange(when_still_, {})) services_.core.Post(then);
  }
  if (parked_ || failing_) {
    LetGo();
    return;
  }
  if (ended()) {
    ReleaseModel();
    return;
  }
  if (!prepared.ok()) {
    OnNoTransition(prepared.status());
    return;
  }
  next_ = nullptr;
  if (!prepared->checkpoint_status.ok()) {
    HoldBack(*std::move(prepared));
    return;
  }
  services_.metrics.Observe(Metric::kAggregationDuration, prepared->prepare_seconds);
  services_.metrics.Observe(Metric::kRoundPhaseDuration, prepared->prepare_seconds, "aggregate");
  // That a step goes on is no outcome.
  const bool resumes = std::exchange(resuming_, false);
  if (resumes) {
    saved_state_.reset();
    saved_newest_.clear();
    newest_ = std::move(*loaded_newest_);
  } else {
    Report(*prepared);
  }
  methods::Transition& transition = prepared->transition;
  state_ = std::make_shared<const methods::ProgramState>(std::move(transition.state));
  branches_ = std::move(prepared->branches);
  if (!resumes) {
    for (const auto& branch : branches_) branch->participants.clear();
    for (const CountedUpdate& update : std::exchange(counted_, {})) {
      counted_before_.emplace_back(update.upload.header.update_id(),
                                   UpdateLedger::Fingerprint(update.upload.header));
    }
    state_changed_ = true;
    Touch();
  }
  const std::vector<const methods::ProgramState*> in_work = StepsInWork(*state_);
  const methods::ProgramState& shown = in_work.empty() ? *state_ : *in_work.front();
  if (shown.model.topology != nullptr) {
    job_.set_stored_parameters(StoredParameters(shown));
    job_.set_dense_parameters(DenseParameters(shown));
  }
  if (in_work.empty()) {
    ReleaseModel();
    SetState(v1::Job::STATE_SUCCEEDED, "", "");
    return;
  }
  for (size_t i = 0; i < branches_.size(); ++i) {
    branches_[i]->model = std::move(prepared->models[i]);
    branches_[i]->reduced.reset();
  }
  RunSteps();
}

void JobRunner::OnNoTransition(const absl::Status& status) {
  if (resuming_) {
    Hold(base::Annotate(status, "this coordinator cannot go on with it"));
    return;
  }
  if (base::ReasonOf(status) == "SYNC_FAILED") services_.journal.Fatal(status);
  if (next_ == nullptr || !IsOfTheDisk(status)) {
    Fail(status);
    return;
  }
  SetCondition(kWaitingStorage,
               base::MessageOf(status) + "; it is tried again, and the job goes on when it can be");
  next_again_ = true;
  try_again_ = services_.clock.Elapsed() + kBetweenTries;
}

void JobRunner::Report(Prepared& prepared) {
  methods::Transition& transition = prepared.transition;
  const std::vector<methods::Outcome*> outcomes = OutcomesOf(transition);
  for (size_t i = 0; i < outcomes.size(); ++i) {
    const auto branch = FindBranch(branches_, outcomes[i]->run);
    if (branch == nullptr && branches_.empty()) continue;  // before the first step
    ESPALIER_CHECK(branch != nullptr, "an outcome belongs to a run that was in work");
    if (outcomes[i]->committed.has_value()) {
      CommitRound(*outcomes[i], prepared.kept[i], *branch);
      newest_.Note(*outcomes[i], transition.state.companions,
                   prepared.kept[i].checkpoint.has_value());
    }
    if (!outcomes[i]->features.empty()) NoteFeatures(outcomes[i]->features);
    if (outcomes[i]->prelude_step.has_value()) {
      ReportPrelude(*std::move(outcomes[i]->prelude_step), *branch);
    }
  }
  if (transition.optimizer_start.has_value()) NoteOptimizerStart(*transition.optimizer_start);
  if (transition.normalization.has_value()) {
    v1::DataSpec& data = *job_.mutable_spec()->mutable_data();
    const auto& [mean, std] = *transition.normalization;
    data.mutable_channel_mean()->Assign(mean.begin(), mean.end());
    data.mutable_channel_std()->Assign(std.begin(), std.end());
    data.set_normalization(v1::DataSpec::NORMALIZATION_GIVEN);
  }
}

void JobRunner::HoldBack(Prepared prepared) {
  const absl::Status& status = prepared.checkpoint_status;
  services_.metrics.Add(Metric::kCheckpointFailures);
  if (base::ReasonOf(status) == "SYNC_FAILED") services_.journal.Fatal(status);
  SetCondition(kWaitingStorage, "a checkpoint cannot be written: " + base::MessageOf(status) +
                                    "; it is tried again, and the job goes on when it can be");
  try_again_ = services_.clock.Elapsed() + kBetweenTries;
  held_back_ = std::make_unique<Prepared>(std::move(prepared));
}

void JobRunner::KeepHeldBack() {
  if (services_.clock.Elapsed() < try_again_) return;
  preparing_ = true;
  const std::shared_ptr<Prepared> prepared = std::move(held_back_);
  services_.files.Post([self = shared_from_this(), prepared] {
    try {
      self->KeepModels(*prepared);
    } catch (const std::bad_alloc&) {
      prepared->checkpoint_status = OutOfMemory();
    } catch (const std::length_error&) {
      prepared->checkpoint_status = OutOfMemory();
    }
    self->ApplyOnCore(std::move(*prepared));
  });
}

void JobRunner::ReportPrelude(v1::PreludeStep step, Branch& branch) {
  step.set_bytes_sent(branch.traffic->sent - branch.prelude_sent);
  step.set_bytes_received(branch.traffic->received - branch.prelude_received);
  wire::SetDuration(services_.clock.Elapsed() - branch.prelude_start, step.mutable_duration());
  branch.prelude_sent += step.bytes_sent();
  branch.prelude_received += step.bytes_received();
  job_.set_prelude_bytes_sent(job_.prelude_bytes_sent() + step.bytes_sent());
  job_.set_prelude_bytes_received(job_.prelude_bytes_received() + step.bytes_received());
  v1::JobEvent event = NewEvent();
  *event.mutable_prelude_step() = std::move(step);
  Emit(std::move(event));
}

void JobRunner::CommitRound(methods::Outcome& outcome, const Kept& kept, Branch& branch) {
  v1::RoundSummary& summary = *outcome.committed;
  const round::Traffic& traffic = *branch.traffic;
  const bool whole = outcome.checkpoint != nullptr;
  const double stored =
      whole ? outcome.checkpoint->topology->total_stored() : job_.stored_parameters();
  const double dense = whole ? outcome.checkpoint->topology->total_size() : job_.dense_parameters();
  summary.set_bytes_sent(traffic.sent - branch.round_start_sent);
  summary.set_bytes_received(traffic.received - branch.round_start_received);
  const int64_t values = traffic.values_sent + traffic.values_received - branch.round_start_values;
  summary.set_dense_bytes(
      static_cast<int64_t>(static_cast<double>(values) * dense / std::max(1.0, stored)));
  wire::SetDuration(services_.clock.Elapsed() - branch.round_start, summary.mutable_duration());
  if (kept.checkpoint.has_value()) NoteCheckpoint(*kept.checkpoint, kept.checkpoint_seconds);
  job_.set_round(summary.round());
  job_.set_model_hash(kept.model_hash);
  NoteEvaluation(summary, branch);
  if (!summary.run().empty()) NoteRun(summary, kept);
  v1::JobEvent event = NewEvent();
  *event.mutable_round_committed()->mutable_summary() = summary;
  Emit(std::move(event));
  rounds_.Note(summary, job_.best_round() == summary.round());
  branch.round_is_open = false;
  KeepProgress(branch);
  last_progress_ = services_.clock.Wall();
  LogRound(summary);
  services_.metrics.Add(Metric::kRounds, 1, "committed");
  services_.metrics.Add(Metric::kTrainFlops, summary.train_flops(), "actual");
  services_.metrics.Add(Metric::kTrainFlops, summary.dense_train_flops(), "dense_equivalent");
  services_.metrics.Set(Metric::kRoundLastCommit,
                        absl::ToDoubleSeconds(services_.clock.Wall() - absl::UnixEpoch()));
}

void JobRunner::NoteCheckpoint(const checkpoint::CheckpointInfo& checkpoint, double seconds) {
  job_.set_latest_checkpoint(checkpoint.name);
  services_.metrics.Observe(Metric::kCheckpointDuration, seconds);
  services_.metrics.Observe(Metric::kRoundPhaseDuration, seconds, "checkpoint");
  services_.metrics.Set(Metric::kCheckpointBytes, static_cast<double>(checkpoint.size_bytes));
  v1::JobEvent event = NewEvent();
  event.mutable_checkpoint_written()->set_name(checkpoint.name);
  event.mutable_checkpoint_written()->set_round(checkpoint.round);
  event.mutable_checkpoint_written()->set_size_bytes(checkpoint.size_bytes);
  Emit(std::move(event));
}

void JobRunner::OnStepFinished(absl::StatusOr<reduce::Reduced> reduced, Branch& branch) {
  services_.metrics.Observe(Metric::kRoundPhaseDuration,
                            absl::ToDoubleSeconds(services_.clock.Elapsed() - branch.phase_start),
                            branch.phase);
  branch.step->Describe(branch.progress);
  branch.step = nullptr;
  EnterPhase(branch, "aggregate");
  if (!reduced.ok()) {
    Fail(reduced.status());
    return;
  }
  branch.reduced = *std::move(reduced);
  const auto in_work = StepsInWork(*state_);
  // Methods that go back to a model look through all of it.
  bool large = state_->kept != nullptr && state_->kept->topology->total_size() > kInlineValues;
  for (size_t i = 0; i < branches_.size(); ++i) {
    if (!branches_[i]->reduced.has_value()) return;  // its step is still in work
    // Before the first round a method may still look through the whole dense model.
    const tensor::ModelTopology& topology = *in_work[i]->model.topology;
    const int64_t work = in_work[i]->round == 0 ? topology.total_size() : topology.total_stored();
    large = large || work > kInlineValues || in_work[i]->language != nullptr ||
            !branches_[i]->reduced->statistics.empty();
  }
  auto results = std::make_shared<std::vector<reduce::Reduced>>();
  for (const auto& ended : branches_) results->push_back(*std::exchange(ended->reduced, {}));
  const auto self = shared_from_this();
  // Programs of language models write parts of them, and may have to be asked again.
  const bool writes = std::ranges::any_of(
      in_work, [](const methods::ProgramState* run) { return run->language != nullptr; });
  // Next() gets a copy: PublishModel() compares structures with the branches until Apply()
  // replaces them.
  Advance(
      [self, results, writes] {
        return NextOf(*self->program_, *self->state_, writes ? *results : std::move(*results));
      },
      large, writes);
}

void JobRunner::Accept(round::Upload upload, std::function<void(absl::Status)> done) {
  const Branch& branch = *OwnerOf(upload.header.task_id());
  const auto step = branch.step;
  const int64_t values_bytes = round::ValuesBytes(upload.header.sections());
  const auto body_bytes = static_cast<double>(upload.header.body_bytes());
  const tensor::ModelTopology& structure = *branch.model.structure;
  const bool is_whole = branch.model.language == nullptr;
  const double dense_ratio =
      static_cast<double>(is_whole ? structure.total_size() : job_.dense_parameters()) /
      static_cast<double>(
          std::max<int64_t>(1, is_whole ? structure.total_stored() : job_.stored_parameters()));
  branch.traffic->received +=
      static_cast<int64_t>(upload.header.body_bytes() + upload.header.ByteSizeLong());
  branch.traffic->values_received += values_bytes;
  const auto self = shared_from_this();
  upload.participant = services_.fleet.ParticipantOf(upload.header.task_id());
  const auto counted = std::make_shared<CountedUpdate>(CountedUpdate{branch.run, upload});
  step->Accept(std::move(upload), [self, counted, body_bytes,
                                   dense_bytes = static_cast<double>(values_bytes) * dense_ratio,
                                   done = std::move(done)](absl::Status status) {
    // Nobody would know of it when the job goes on.
    if (status.ok() && self->at_rest()) status = round::RoundClosed();
    if (status.ok()) {
      if (self->services_.journal.keeps()) {
        self->counted_.push_back(std::move(*counted));
        self->Touch();
      }
      self->services_.metrics.Add(Metric::kUpdateBytes, body_bytes, "actual");
      self->services_.metrics.Add(Metric::kUpdateBytes, dense_bytes, "dense_equivalent");
    }
    done(std::move(status));
  });
}

v1::Job JobRunner::View(bool with_history) const {
  if (!with_history) return WithoutDetails(job_);
  v1::Job view = job_;
  for (size_t i = rounds_.size() - std::min(rounds_.size(), kHistoryInView); i < rounds_.size();
       ++i) {
    *view.add_history() = rounds_.At(i);
  }
  return view;
}

v1::Job WithoutDetails(v1::Job job) {
  job.clear_last_sites();
  job.clear_best_sites();
  job.clear_confusion();
  job.clear_runs();
  job.clear_features();
  return job;
}

}  // namespace espalier::server::jobs
