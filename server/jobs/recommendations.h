// Recommendations: questions to a recommender's checkpoint, answered by workers that have the data.
//
// A question is one task for one worker, by the same leases, retries and fencing as the tasks of a
// job. What a worker cannot answer goes to the next one: with local data, or rows of users that
// stayed on workers, only the user's own worker can.
//
// Bounds:      kMaxQuestions at once; an answer within kAnswerWithin. The checkpoint asked last is
//              kept for kKeepModel, so that the next question about it reads no file.
// Threading:   lives on the core executor; checkpoints are read on the pool.
// Errors:      CHECKPOINT_NOT_FOUND, NO_RECOMMENDER (checkpoint of another model), PRIVATE_USERS
//              (another data set for users whose rows stayed on workers), WAITING_WORKERS
//              (Unavailable; no worker offers the data set), TOO_MANY_QUESTIONS
//              (ResourceExhausted), QUORUM_LOST (no answer in time), those of the worker asked last
//              (USER_NOT_FOUND, PRIVATE_ROWS_MISSING …).
#pragma once

#include <functional>
#include <list>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "espalier/v1/checkpoint.pb.h"
#include "server/jobs/services.h"
#include "server/round/step_runner.h"

namespace espalier::server::jobs {

class Recommendations {
 public:
  static constexpr size_t kMaxQuestions = 64;
  static constexpr absl::Duration kAnswerWithin = absl::Seconds(60);
  static constexpr absl::Duration kKeepModel = absl::Minutes(5);
  using Done = std::function<void(absl::StatusOr<v1::RecommendResponse>)>;

  explicit Recommendations(Services services) : services_(services) {}

  // `done` is called once, on the core executor.
  void Ask(const v1::RecommendRequest& request, Done done);
  void Tick();

  bool Owns(const std::string& task_id) const { return Find(task_id) != nullptr; }
  // Of a task that this owns.
  absl::Status Admit(const v1::PartialHeader& header) const;
  void Accept(round::Upload upload, std::function<void(absl::Status)> done);

 private:
  // A checkpoint ready to be fetched by workers.
  struct Model {
    std::string checkpoint;
    std::string sha256;
    v1::ModelRef ref;
    v1::DataSpec data;
    uint64_t seed = 0;
    std::string job;    // that trained it
    int32_t round = 0;  // after which it was written
    std::shared_ptr<const tensor::ModelTopology> topology;
    std::shared_ptr<const round::Blob> values;
    std::shared_ptr<const round::Blob> structure;
  };
  struct Question {
    v1::RecommendRequest request;
    Done done;
    std::shared_ptr<round::StepRunner> step;
    v1::RecommendResponse answer;
  };

  static absl::StatusOr<std::shared_ptr<const Model>> Load(const Services& services,
                                                           const std::string& checkpoint,
                                                           const std::string& sha256);
  const Question* Find(const std::string& task_id) const;
  void Begin(const std::shared_ptr<Question>& question, const std::shared_ptr<const Model>& model);
  void End(const std::shared_ptr<Question>& question, const absl::Status& status);

  Services services_;
  std::shared_ptr<const Model> model_;  // the last one
  absl::Duration model_used_;
  std::list<std::shared_ptr<Question>> questions_;
};

}  // namespace espalier::server::jobs
