#include "server/jobs/questions/recommendation.h"

#include <fmt/core.h>

#include <string>

#include "common/base/status.h"

namespace espalier::server::jobs {
namespace {

constexpr int32_t kDefaultItems = 20;
constexpr int32_t kMaxItems = 1000;
constexpr size_t kMaxUserBytes = 1024;

absl::Status CheckModel(const AskedModel& model) {
  if (model.ref.spec().has_recommender()) return absl::OkStatus();
  return base::FailedPrecondition(
      "NO_RECOMMENDER", "expected the checkpoint of a recommender, found " + model.checkpoint +
                            " of another model; see `espalier checkpoint list`");
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

absl::Status CheckRecommend(const v1::RecommendRequest& request) {
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

absl::Status PrepareRecommend(const v1::RecommendRequest& request, const AskedModel& model,
                              round::StepPlan& plan) {
  ESPALIER_RETURN_IF_ERROR(CheckModel(model));
  const bool is_private = model.ref.spec().recommender().private_users();
  if (!request.dataset().empty()) {
    if (is_private && request.dataset() != model.data.dataset()) {
      return OtherDataOfPrivateUsers(model.checkpoint);
    }
    plan.task.mutable_data()->set_dataset(request.dataset());
  }
  v1::RecommendTask& task = *plan.task.mutable_recommend();
  task.set_user(request.user());
  task.set_k(request.k() == 0 ? kDefaultItems : request.k());
  return absl::OkStatus();
}

absl::Status CheckOwner(const AskedModel& model, const std::string& dataset, int32_t workers) {
  const bool local = model.data.partition().kind() == v1::Partition::KIND_LOCAL;
  const bool is_private = model.ref.spec().recommender().private_users();
  return is_private && local && workers > 1 ? SameNamesElsewhere(dataset, workers)
                                            : absl::OkStatus();
}

}  // namespace espalier::server::jobs
