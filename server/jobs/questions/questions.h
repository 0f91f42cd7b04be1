// Questions: what people ask a checkpoint's model, answered by workers.
//
// A question is one task for one worker, by the same leases, retries and fencing as the tasks of a
// job. What a worker cannot answer goes to the next one: with local data, or rows of users that
// stayed on workers, only the user's own worker can.
//
// For a worker's policy a question is as a task of the job that trained the model, whoever asks: it
// carries that job's owner and method, as the checkpoint has them; files of
// earlier versions have neither.
//
// Bounds:      kMaxQuestions at once; an answer within kAnswerWithin after the model is there;
//              kMaxModels models in memory, which are read one at a time. The checkpoint asked last
//              is kept for kKeepModel, so that the next question about it reads no file.
// Threading:   lives on the core executor; checkpoints are read on the pool.
// Errors:      CHECKPOINT_NOT_FOUND, WAITING_WORKERS (Unavailable; no worker can answer),
//              TOO_MANY_QUESTIONS and OUT_OF_MEMORY (ResourceExhausted), NO_ANSWER (in time), those of
//              recommendation.h and prediction.h, those of the worker asked last (USER_NOT_FOUND,
//              PRIVATE_ROWS_MISSING, DATASET_INVALID …).
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "espalier/v1/checkpoint.pb.h"
#include "espalier/v1/predict.pb.h"
#include "server/jobs/services.h"
#include "server/round/step_runner.h"

namespace espalier::server::jobs {

// A checkpoint ready to be fetched by workers.
struct AskedModel {
  std::string checkpoint;
  std::string sha256;
  v1::ModelRef ref;
  v1::DataSpec data;
  uint64_t seed = 0;
  std::string job;    // that trained it
  std::string owner;  // of that job, and its method; "" where the file does not say it
  std::string method;
  int32_t round = 0;  // after which it was written
  std::shared_ptr<const tensor::ModelTopology> topology;
  std::shared_ptr<const round::Blob> values;
  std::shared_ptr<const round::Blob> structure;
};

// What makes one kind of question different from another.
struct QuestionKind {
  // Completes a plan that has model, data, seed, job and round: the task's kind, and where it is
  // not the model's, its data. An error ends the question.
  std::function<absl::Status(const AskedModel&, round::StepPlan&)> prepare;
  // Whether workers have to offer the data set.
  bool needs_data = true;
  // Called once: with the worker's header and what the step was reduced to, or why there is none.
  std::function<void(const absl::StatusOr<reduce::Reduced>&, const v1::PartialHeader&,
                     const AskedModel*)>
      done;
};

class Questions {
 public:
  static constexpr size_t kMaxQuestions = 64;
  static constexpr size_t kMaxModels = 4;
  static constexpr absl::Duration kAnswerWithin = absl::Seconds(60);
  static constexpr absl::Duration kKeepModel = absl::Minutes(5);

  explicit Questions(Services services) : services_(services) {}

  // `done` is called once, on the core executor.
  void Recommend(const v1::RecommendRequest& request,
                 std::function<void(absl::StatusOr<v1::RecommendResponse>)> done);
  void Predict(const v1::PredictRequest& request,
               std::function<void(absl::StatusOr<v1::PredictResponse>)> done);
  void Tick();

  bool Owns(const std::string& task_id) const { return Find(task_id) != nullptr; }
  // nullopt: the task is none of these, or no answer to it is wanted any more.
  std::optional<round::TaskInWork> InWork(const std::string& task_id) const;
  // Of a task that this owns.
  void Accept(round::Upload upload, std::function<void(absl::Status)> done);

 private:
  struct Question {
    QuestionKind kind;
    std::shared_ptr<const AskedModel> model;
    std::shared_ptr<round::StepRunner> step;
    v1::PartialHeader header;  // of the result
  };
  // A question whose model is not there.
  struct Waiting {
    std::shared_ptr<Question> question;
    std::string checkpoint;
    std::string sha256;
  };

  static absl::StatusOr<std::shared_ptr<const AskedModel>> Load(const Services& services,
                                                                const std::string& checkpoint,
                                                                const std::string& sha256);
  // The same, and OUT_OF_MEMORY.
  static absl::StatusOr<std::shared_ptr<const AskedModel>> LoadOrFail(const Services& services,
                                                                      const std::string& checkpoint,
                                                                      const std::string& sha256);
  // Begins to read the model that has been waited for longest, if there is room.
  void LoadNext();
  void Loaded(const std::string& checkpoint, const std::string& sha256,
              const absl::StatusOr<std::shared_ptr<const AskedModel>>& model);
  void Ask(const std::string& checkpoint, QuestionKind kind);
  std::shared_ptr<Question> Find(const std::string& task_id) const;
  void Begin(const std::shared_ptr<Question>& question,
             const std::shared_ptr<const AskedModel>& model);
  absl::StatusOr<round::StepPlan> Plan(const Question& question) const;
  void End(const std::shared_ptr<Question>& question,
           const absl::StatusOr<reduce::Reduced>& reduced);

  Services services_;
  std::shared_ptr<const AskedModel> model_;  // the last one
  absl::Duration model_used_;
  std::list<std::shared_ptr<Question>> questions_;
  std::list<Waiting> waiting_;  // these are among questions_, too
  bool loading_ = false;
  std::vector<std::weak_ptr<const AskedModel>> models_;  // that somebody may still hold
};

}  // namespace espalier::server::jobs
