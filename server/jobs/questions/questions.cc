#include "server/jobs/questions/questions.h"

#include <algorithm>
#include <iterator>
#include <new>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/wire/model_spec/result_sections.h"
#include "common/wire/proto_time.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"
#include "server/jobs/questions/prediction.h"
#include "server/jobs/questions/recommendation.h"

namespace espalier::server::jobs {
namespace {

constexpr int32_t kRetries = 2;

v1::BlobRef RefTo(const round::Blob& blob) {
  v1::BlobRef ref;
  ref.set_digest(blob.digest);
  ref.set_size_bytes(blob.data.size());
  return ref;
}

// `refusing`: how many there are that do not allow it.
absl::Status NobodyThere(const std::string& dataset, bool needs_data, const std::string& refusing) {
  const std::string what = needs_data
                               ? "expected a connected worker that offers data set '" + dataset +
                                     "', found none; start one, or name another data set"
                               : "expected a connected worker, found none; start one";
  return base::MakeError(absl::StatusCode::kUnavailable, "WAITING_WORKERS", what + refusing);
}

// Keeps the values of the one participant there is, bit by bit.
class OnlyResult : public reduce::Reducer {
 public:
  absl::Status Merge(const reduce::Partial& partial) override {
    std::vector<float> values;
    if (partial.values_count > 0) {
      ESPALIER_RETURN_IF_ERROR(partial.values([&values](std::span<const float> piece) {
        values.insert(values.end(), piece.begin(), piece.end());
        return absl::OkStatus();
      }));
    }
    reduced_.participants = 1;
    reduced_.examples = partial.examples;
    reduced_.sections[v1::SECTION_KIND_PREDICTIONS] = std::move(values);
    return absl::OkStatus();
  }
  absl::StatusOr<reduce::Reduced> Finish() override { return std::move(reduced_); }
  // A question that is not answered is asked again: nothing of it is kept.
  absl::StatusOr<std::string> Save() const override { return NotKept(); }
  absl::Status Absorb(std::string_view) override { return NotKept(); }

 private:
  static absl::Status NotKept() {
    return absl::UnimplementedError("the answer to a question is not kept");
  }

  reduce::Reduced reduced_;
};

// "jobs/{job}" is the job's newest checkpoint.
absl::StatusOr<checkpoint::CheckpointInfo> FindCheckpoint(
    const checkpoint::CheckpointStore& checkpoints, const std::string& name) {
  constexpr std::string_view kJobs = "jobs/";
  if (!name.starts_with(kJobs)) return checkpoints.Get(name);
  const std::string job = name.substr(kJobs.size());
  // The list of no job is that of all.
  const auto of_job =
      job.empty() ? std::vector<checkpoint::CheckpointInfo>() : checkpoints.List(job);
  if (!of_job.empty()) return of_job.front();
  return base::NotFound("CHECKPOINT_NOT_FOUND", "expected a checkpoint of " + name +
                                                    ", found none; see `espalier checkpoint list`");
}

}  // namespace

absl::StatusOr<std::shared_ptr<const AskedModel>> Questions::Load(const Services& services,
                                                                  const std::string& checkpoint,
                                                                  const std::string& sha256) {
  ESPALIER_ASSIGN_OR_RETURN(const auto metadata, services.checkpoints.ReadMetadata(checkpoint));
  if (!metadata.data_spec.has_value()) {
    return base::FailedPrecondition(
        "NO_PREDICTIONS",
        "expected the checkpoint of a model that a job trained, found " + checkpoint +
            ", a language model that was pruned or one of an old version; `espalier generate` "
            "continues texts with it");
  }
  ESPALIER_ASSIGN_OR_RETURN(checkpoint::LoadedCheckpoint loaded,
                            services.checkpoints.Load(checkpoint));
  auto model = std::make_shared<AskedModel>();
  model->checkpoint = checkpoint;
  model->sha256 = sha256;
  model->data = *loaded.metadata.data_spec;
  model->seed = loaded.metadata.seed;
  model->job = "jobs/" + loaded.metadata.job;
  model->owner = loaded.metadata.owner;
  model->method = loaded.metadata.method;
  model->round = loaded.metadata.round;
  model->topology = loaded.state.topology;
  const auto traffic = std::make_shared<round::Traffic>("");
  model->values =
      services.blobs.Put(std::string(wire::ValuesAsBytes(loaded.state.values)), true, traffic);
  ESPALIER_ASSIGN_OR_RETURN(const auto full, wire::EncodeTopology(*model->topology));
  model->structure = services.blobs.Put(full.SerializeAsString(), false, traffic);
  *model->ref.mutable_spec() = loaded.metadata.model_spec;
  model->ref.set_topology_hash(model->topology->hash());
  *model->ref.mutable_topology() = RefTo(*model->structure);
  *model->ref.mutable_values() = RefTo(*model->values);
  return std::shared_ptr<const AskedModel>(std::move(model));
}

void Questions::Recommend(const v1::RecommendRequest& request,
                          std::function<void(absl::StatusOr<v1::RecommendResponse>)> done) {
  if (const absl::Status status = CheckRecommend(request); !status.ok()) return done(status);
  QuestionKind kind;
  kind.prepare = [request](const AskedModel& model, round::StepPlan& plan) {
    return PrepareRecommend(request, model, plan);
  };
  kind.done = [done = std::move(done)](const absl::StatusOr<reduce::Reduced>& reduced,
                                       const v1::PartialHeader& header, const AskedModel*) {
    if (!reduced.ok()) return done(reduced.status());
    v1::RecommendResponse answer;
    *answer.mutable_items() = header.recommended();
    done(std::move(answer));
  };
  Ask(request.checkpoint(), std::move(kind));
}

void Questions::Predict(const v1::PredictRequest& request,
                        std::function<void(absl::StatusOr<v1::PredictResponse>)> done) {
  if (const absl::Status status = CheckPredict(request); !status.ok()) return done(status);
  QuestionKind kind;
  // Only a recommender's users and items have names that a data set gives.
  kind.needs_data = !request.examples().examples(0).user().empty();
  kind.prepare = [request](const AskedModel& model, round::StepPlan& plan) {
    return PreparePredict(request, model, plan);
  };
  kind.done = [request, done = std::move(done)](const absl::StatusOr<reduce::Reduced>& reduced,
                                                const v1::PartialHeader&, const AskedModel* model) {
    if (!reduced.ok()) return done(reduced.status());
    done(PredictionsOf(request, *model, reduced->Section(v1::SECTION_KIND_PREDICTIONS)));
  };
  Ask(request.checkpoint(), std::move(kind));
}

void Questions::Ask(const std::string& checkpoint, QuestionKind kind) {
  const auto refuse = [&kind](const absl::Status& status) { kind.done(status, {}, nullptr); };
  if (questions_.size() >= kMaxQuestions) {
    return refuse(base::MakeError(absl::StatusCode::kResourceExhausted, "TOO_MANY_QUESTIONS",
                                  "expected fewer than " + std::to_string(kMaxQuestions) +
                                      " questions at once; try again later"));
  }
  const auto info = FindCheckpoint(services_.checkpoints, checkpoint);
  if (!info.ok()) return refuse(info.status());
  auto question = std::make_shared<Question>();
  question->kind = std::move(kind);
  questions_.push_back(question);
  if (model_ != nullptr && model_->checkpoint == info->name && model_->sha256 == info->sha256) {
    Begin(question, model_);
    return;
  }
  waiting_.push_back({question, info->name, info->sha256});
  LoadNext();
}

void Questions::LoadNext() {
  std::erase_if(models_, [](const auto& model) { return model.expired(); });
  const size_t free = models_.size() < kMaxModels ? kMaxModels - models_.size() : 0;
  if (waiting_.empty() || loading_ || free == 0) return;
  loading_ = true;
  services_.pool.Post([this, name = waiting_.front().checkpoint, sha256 = waiting_.front().sha256] {
    auto model = std::make_shared<absl::StatusOr<std::shared_ptr<const AskedModel>>>(
        LoadOrFail(services_, name, sha256));
    services_.core.Post([this, name, sha256, model] { Loaded(name, sha256, *model); });
  });
}

void Questions::Loaded(const std::string& checkpoint, const std::string& sha256,
                       const absl::StatusOr<std::shared_ptr<const AskedModel>>& model) {
  loading_ = false;
  if (model.ok()) {
    model_ = *model;
    models_.push_back(model_);
  }
  std::vector<std::shared_ptr<Question>> asked;
  for (auto it = waiting_.begin(); it != waiting_.end();) {
    const bool same = it->checkpoint == checkpoint && it->sha256 == sha256;
    if (same) asked.push_back(it->question);
    it = same ? waiting_.erase(it) : std::next(it);
  }
  for (const auto& question : asked) {
    if (model.ok()) {
      Begin(question, *model);
    } else {
      End(question, model.status());
    }
  }
  LoadNext();
}

absl::StatusOr<std::shared_ptr<const AskedModel>> Questions::LoadOrFail(
    const Services& services, const std::string& checkpoint, const std::string& sha256) {
  try {
    return Load(services, checkpoint, sha256);
  } catch (const std::bad_alloc&) {
    return base::MakeError(
        absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
        "expected memory for " + checkpoint + " on the coordinator, found none left; ask later");
  }
}

absl::StatusOr<round::StepPlan> Questions::Plan(const Question& question) const {
  const AskedModel& model = *question.model;
  const bool is_private = model.ref.spec().recommender().private_users();
  round::StepPlan plan;
  *plan.task.mutable_model() = model.ref;
  *plan.task.mutable_data() = model.data;
  plan.task.set_seed(model.seed);
  // Workers find rows of users that they kept by the job that trained them.
  plan.task.set_job(is_private ? model.job : model.checkpoint);
  plan.task.set_round(model.round);
  plan.task.set_submitter(model.owner);
  plan.task.set_method(model.method);
  wire::SetDuration(kAnswerWithin, plan.task.mutable_lease());
  ESPALIER_RETURN_IF_ERROR(question.kind.prepare(model, plan));
  *plan.task.mutable_sections() = wire::SectionsOf(plan.task, *model.topology);
  const std::string& dataset = plan.task.data().dataset();
  const scheduler::Requirements needs = {.dataset = question.kind.needs_data ? dataset : "",
                                         .job = config::TraitsOf(plan.task)};
  plan.pool = services_.fleet.MakePool(needs);
  const auto workers = static_cast<int32_t>(plan.pool->able().size());
  if (workers == 0) {
    return NobodyThere(dataset, question.kind.needs_data, services_.fleet.AndRefusing(needs));
  }
  ESPALIER_RETURN_IF_ERROR(CheckOwner(model, dataset, workers));
  plan.participants = {{"question", 0, ""}};
  plan.participants[0].most_examples = std::max(1, plan.task.predict().examples().examples_size());
  wire::SetDuration(kAnswerWithin, plan.federation.mutable_round_deadline());
  plan.federation.set_on_quorum_loss(v1::Federation::QUORUM_POLICY_FAIL);
  // Only the workers know who has the user's row: all of them may have to be asked.
  plan.federation.set_max_retries(is_private ? std::max(kRetries, workers) : kRetries);
  plan.topology = model.topology;
  plan.reducer = std::make_shared<OnlyResult>();
  return plan;
}

void Questions::Begin(const std::shared_ptr<Question>& question,
                      const std::shared_ptr<const AskedModel>& model) {
  model_used_ = services_.clock.Elapsed();
  // Held until the answer is there, so that workers can fetch it.
  question->model = model;
  absl::StatusOr<round::StepPlan> plan = Plan(*question);
  if (!plan.ok()) return End(question, plan.status());
  round::StepListener listener;
  const std::weak_ptr<Question> weak = question;
  listener.on_finished = [this, weak](const absl::StatusOr<reduce::Reduced>& reduced) {
    if (const auto asked = weak.lock()) End(asked, reduced);
  };
  question->step =
      std::make_shared<round::StepRunner>(services_.fleet, services_.core, services_.pool,
                                          services_.clock, *std::move(plan), std::move(listener));
  question->step->Start({});
}

void Questions::End(const std::shared_ptr<Question>& question,
                    const absl::StatusOr<reduce::Reduced>& reduced) {
  if (std::erase(questions_, question) == 0) return;
  if (question->step != nullptr && !question->step->ended()) question->step->Abort("ENDED");
  // A step has one code for whatever a worker reports.
  const std::string reason(base::ReasonOf(reduced.status()));
  const bool unknown = reason == "USER_NOT_FOUND" || reason == "ITEM_NOT_FOUND";
  const bool invalid = reason == "DATASET_INVALID";
  if (reason == "QUORUM_LOST") {
    question->kind.done(
        base::MakeError(absl::StatusCode::kDeadlineExceeded, "NO_ANSWER",
                        "expected an answer of a worker within " +
                            absl::FormatDuration(kAnswerWithin) +
                            ", found none; ask for fewer examples at once, or start more workers"),
        {}, nullptr);
    return;
  }
  if (unknown || invalid) {
    question->kind.done(
        base::MakeError(unknown ? absl::StatusCode::kNotFound : absl::StatusCode::kInvalidArgument,
                        reason, base::MessageOf(reduced.status())),
        {}, nullptr);
    return;
  }
  question->kind.done(reduced, question->header, question->model.get());
}

void Questions::Tick() {
  const std::list<std::shared_ptr<Question>> asked = questions_;
  for (const auto& question : asked) {
    if (question->step != nullptr) question->step->Tick();
  }
  if (questions_.empty() && services_.clock.Elapsed() - model_used_ > kKeepModel) model_ = nullptr;
  LoadNext();
}

std::shared_ptr<Questions::Question> Questions::Find(const std::string& task_id) const {
  const auto found = std::find_if(questions_.begin(), questions_.end(), [&](const auto& question) {
    return question->step != nullptr && question->step->Owns(task_id);
  });
  return found == questions_.end() ? nullptr : *found;
}

std::optional<round::TaskInWork> Questions::InWork(const std::string& task_id) const {
  const std::shared_ptr<Question> question = Find(task_id);
  if (question == nullptr) return std::nullopt;
  return question->step->InWork(task_id);
}

void Questions::Accept(round::Upload upload, std::function<void(absl::Status)> done) {
  const std::shared_ptr<Question> question = Find(upload.header.task_id());
  question->header = upload.header;
  const auto step = question->step;  // Accept() may end the question
  step->Accept(std::move(upload), std::move(done));
}

}  // namespace espalier::server::jobs
