#include "server/jobs/recommendations.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/wire/proto_time.h"
#include "common/wire/topology_codec.h"
#include "common/wire/values_codec.h"

namespace espalier::server::jobs {
namespace {

constexpr int32_t kDefaultItems = 20;
constexpr int32_t kMaxItems = 1000;
constexpr int32_t kRetries = 2;
constexpr size_t kMaxUserBytes = 1024;

v1::BlobRef RefTo(const round::Blob& blob) {
  v1::BlobRef ref;
  ref.set_digest(blob.digest);
  ref.set_size_bytes(blob.data.size());
  return ref;
}

absl::Status CheckRequest(const v1::RecommendRequest& request) {
  if (request.user().empty() || request.user().size() > kMaxUserBytes) {
    return base::InvalidArgument("INVALID_USER",
                                 "expected a user as the data set calls them, of 1 to 1024 bytes, "
                                 "found " +
                                     std::to_string(request.user().size()) + " bytes");
  }
  if (request.k() < 0 || request.k() > kMaxItems) {
    return base::InvalidArgument(
        "INVALID_K", "expected 1 to 1000 items (default 20), found " + std::to_string(request.k()));
  }
  return absl::OkStatus();
}

absl::Status CheckModel(const checkpoint::CheckpointMetadata& metadata, const std::string& name) {
  if (!metadata.model_spec.has_recommender() || !metadata.data_spec.has_value()) {
    return base::FailedPrecondition("NO_RECOMMENDER",
                                    "expected the checkpoint of a recommender, found " + name +
                                        " of a model of layers; see `espalier checkpoint list`");
  }
  return absl::OkStatus();
}

absl::Status OtherDataOfPrivateUsers(const std::string& checkpoint) {
  return base::InvalidArgument(
      "PRIVATE_USERS", "expected no other data set for " + checkpoint +
                           ": rows of its users stayed on the workers, for the users of the job's "
                           "data set; leave --data (dataset) out");
}

absl::Status SameNamesElsewhere(const std::string& dataset, int32_t workers) {
  return base::FailedPrecondition(
      "AMBIGUOUS_USER",
      fmt::format("expected one connected worker that offers data set '{}', since users of the "
                  "workers' own files may have the same names, found {}; ask while only the "
                  "user's worker is connected",
                  dataset, workers));
}

}  // namespace

absl::StatusOr<std::shared_ptr<const Recommendations::Model>> Recommendations::Load(
    const Services& services, const std::string& checkpoint, const std::string& sha256) {
  ESPALIER_ASSIGN_OR_RETURN(checkpoint::LoadedCheckpoint loaded,
                            services.checkpoints.Load(checkpoint));
  ESPALIER_RETURN_IF_ERROR(CheckModel(loaded.metadata, checkpoint));
  auto model = std::make_shared<Model>();
  model->checkpoint = checkpoint;
  model->sha256 = sha256;
  model->data = *loaded.metadata.data_spec;
  model->seed = loaded.metadata.seed;
  model->job = "jobs/" + loaded.metadata.job;
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
  return std::shared_ptr<const Model>(std::move(model));
}

void Recommendations::Ask(const v1::RecommendRequest& request, Done done) {
  if (const absl::Status status = CheckRequest(request); !status.ok()) return done(status);
  if (questions_.size() >= kMaxQuestions) {
    return done(base::MakeError(absl::StatusCode::kResourceExhausted, "TOO_MANY_QUESTIONS",
                                "expected fewer than " + std::to_string(kMaxQuestions) +
                                    " questions at once; try again later"));
  }
  const auto info = services_.checkpoints.Get(request.checkpoint());
  if (!info.ok()) return done(info.status());
  auto question = std::make_shared<Question>();
  question->request = request;
  question->done = std::move(done);
  questions_.push_back(question);
  if (model_ != nullptr && model_->checkpoint == info->name && model_->sha256 == info->sha256) {
    Begin(question, model_);
    return;
  }
  services_.pool.Post([this, question, name = info->name, sha256 = info->sha256] {
    auto model = std::make_shared<absl::StatusOr<std::shared_ptr<const Model>>>(
        Load(services_, name, sha256));
    services_.core.Post([this, question, model] {
      if (!model->ok()) return End(question, model->status());
      model_ = **model;
      Begin(question, model_);
    });
  });
}

void Recommendations::Begin(const std::shared_ptr<Question>& question,
                            const std::shared_ptr<const Model>& model) {
  model_used_ = services_.clock.Elapsed();
  round::StepPlan plan;
  v1::RecommendTask& task = *plan.task.mutable_recommend();
  task.set_user(question->request.user());
  task.set_k(question->request.k() == 0 ? kDefaultItems : question->request.k());
  *plan.task.mutable_model() = model->ref;
  *plan.task.mutable_data() = model->data;
  const bool is_private = model->ref.spec().recommender().private_users();
  if (!question->request.dataset().empty()) {
    if (is_private && question->request.dataset() != model->data.dataset()) {
      return End(question, OtherDataOfPrivateUsers(model->checkpoint));
    }
    plan.task.mutable_data()->set_dataset(question->request.dataset());
  }
  plan.task.set_seed(model->seed);
  // Workers find rows of users that they kept by the job that trained them.
  plan.task.set_job(is_private ? model->job : model->checkpoint);
  plan.task.set_round(model->round);
  wire::SetDuration(kAnswerWithin, plan.task.mutable_lease());
  const std::string& dataset = plan.task.data().dataset();
  plan.pool = services_.fleet.MakePool({.dataset = dataset});
  const auto workers = static_cast<int32_t>(plan.pool->able().size());
  if (workers == 0) {
    return End(question,
               base::MakeError(absl::StatusCode::kUnavailable, "WAITING_WORKERS",
                               "expected a connected worker that offers data set '" + dataset +
                                   "', found none; start one, or name another data set"));
  }
  if (is_private && workers > 1 && model->data.partition().kind() == v1::Partition::KIND_LOCAL) {
    return End(question, SameNamesElsewhere(dataset, workers));
  }
  plan.participants = {{"question", 0, ""}};
  plan.participants[0].most_examples = 1;
  wire::SetDuration(kAnswerWithin, plan.federation.mutable_round_deadline());
  plan.federation.set_on_quorum_loss(v1::Federation::QUORUM_POLICY_FAIL);
  // Only the workers know who has the user's row: all of them may have to be asked.
  plan.federation.set_max_retries(is_private ? std::max(kRetries, workers) : kRetries);
  plan.topology = model->topology;
  plan.reducer = reduce::MakeReducer(reduce::ReducerKind::kMetrics, nullptr, {});
  round::StepListener listener;
  const std::weak_ptr<Question> weak = question;
  // `model` is held until the answer is there, so that workers can fetch it.
  listener.on_finished = [this, weak, model](const absl::StatusOr<reduce::Reduced>& reduced) {
    if (const auto asked = weak.lock()) End(asked, reduced.status());
  };
  question->step =
      std::make_shared<round::StepRunner>(services_.fleet, services_.core, services_.pool,
                                          services_.clock, std::move(plan), std::move(listener));
  question->step->Start();
}

void Recommendations::End(const std::shared_ptr<Question>& question, const absl::Status& status) {
  if (std::erase(questions_, question) == 0) return;
  if (question->step != nullptr && !question->step->ended()) question->step->Abort("ENDED");
  if (status.ok()) {
    question->done(std::move(question->answer));
  } else if (base::ReasonOf(status) == "USER_NOT_FOUND") {
    // A step has one code for whatever a worker reports.
    question->done(base::NotFound("USER_NOT_FOUND", base::MessageOf(status)));
  } else {
    question->done(status);
  }
}

void Recommendations::Tick() {
  const std::list<std::shared_ptr<Question>> asked = questions_;
  for (const auto& question : asked) {
    if (question->step != nullptr) question->step->Tick();
  }
  if (questions_.empty() && services_.clock.Elapsed() - model_used_ > kKeepModel) model_ = nullptr;
}

const Recommendations::Question* Recommendations::Find(const std::string& task_id) const {
  const auto found = std::find_if(
      questions_.begin(), questions_.end(), [&](const std::shared_ptr<Question>& question) {
        return question->step != nullptr && question->step->Owns(task_id);
      });
  return found == questions_.end() ? nullptr : found->get();
}

absl::Status Recommendations::Admit(const v1::PartialHeader& header) const {
  return Find(header.task_id())->step->Admit(header);
}

void Recommendations::Accept(round::Upload upload, std::function<void(absl::Status)> done) {
  const auto found = std::find_if(questions_.begin(), questions_.end(), [&](const auto& question) {
    return question.get() == Find(upload.header.task_id());
  });
  const std::shared_ptr<Question> question = *found;
  *question->answer.mutable_items() = upload.header.recommended();
  const auto step = question->step;  // Accept() may end the question
  step->Accept(std::move(upload), std::move(done));
}

}  // namespace espalier::server::jobs
