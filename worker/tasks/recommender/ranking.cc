// Rankings of items for users: evaluation, recommendations and scores of recommenders.
#include "worker/recommender/ranking.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/tasks/recommender/ranking_model.h"
#include "worker/tasks/recommender/recommender_rows.h"
#include "worker/tasks/task.h"

namespace espalier::worker::tasks {
namespace {

using recommender::RecommenderModel;

void AddMetric(std::string_view name, int64_t cutoff, double sum, v1::PartialHeader& header) {
  v1::Metric& metric = *header.add_metric_sums();
  metric.set_name(fmt::format("{}@{}", name, cutoff));
  metric.set_value(sum);
}

// More items than this would tell by their absence what a private user had.
constexpr int64_t kMaxPrivateItems = 100;

absl::Status CheckPrivateQuestion(const v1::RecommendTask& task,
                                  const data::InteractionData& data) {
  const int64_t most = std::min<int64_t>(kMaxPrivateItems, data.items / 2);
  if (task.k() <= most) return absl::OkStatus();
  return base::InvalidArgument(
      "INVALID_K",
      fmt::format("expected at most {} items for a user whose data stay on the worker (100, and "
                  "half of the items), found {}; ask for fewer (-k)",
                  most, task.k()));
}

// The error names other users only where they are no secret of this worker.
absl::StatusOr<int32_t> UserOf(const v1::Task& task, const data::InteractionData& data,
                               const std::string& user) {
  if (const auto number = data.user_ids.Find(user)) return *number;
  const bool secret = task.model().spec().recommender().private_users() ||
                      task.data().partition().kind() == v1::Partition::KIND_LOCAL;
  const std::string range = secret ? ""
                                   : fmt::format("; {} to {}", data::Quote(data.user_ids.Name(0)),
                                                 data::Quote(data.user_ids.Name(data.users - 1)));
  return base::NotFound(
      "USER_NOT_FOUND",
      fmt::format("expected a user of data set {} (after its filters{}), found {}", data.name,
                  range, data::Quote(user)));
}

absl::StatusOr<int32_t> ItemOf(const data::InteractionData& data, const std::string& item) {
  if (const auto number = data.item_ids.Find(item)) return *number;
  return base::NotFound("ITEM_NOT_FOUND",
                        fmt::format("expected an item of data set {} (after its filters), found {}",
                                    data.name, data::Quote(item)));
}

// With local data this worker may have been several participants: the one that trained last, at
// the latest in `round`.
std::string LocalParticipant(const std::map<std::string, std::vector<int32_t>>& kept,
                             int32_t round) {
  std::string found;
  int32_t newest = -1;
  for (const auto& [participant, rounds] : kept) {
    for (const int32_t known : rounds) {
      if (known > round || known <= newest) continue;
      newest = known;
      found = participant;
    }
  }
  return found;
}

// The participant whose rows have the user's: the user's shard, by the name that the coordinator
// gives shards, or with local data the one that this worker is.
absl::StatusOr<v1::Task> AsOwner(const v1::Task& task, int32_t users, int32_t user,
                                 const std::map<std::string, std::vector<int32_t>>& kept) {
  v1::Task own = task;
  const v1::Partition& partition = task.data().partition();
  if (partition.kind() == v1::Partition::KIND_LOCAL) {
    own.set_participant(LocalParticipant(kept, task.round()));
    return own;
  }
  ESPALIER_ASSIGN_OR_RETURN(const int shard,
                            data::ShardOfUser(users, partition, task.seed(), user));
  own.set_shard(shard);
  own.set_participant(fmt::format("shard-{}", shard));
  return own;
}

// `task` as the owner of the user, when the rows of its round are here.
absl::StatusOr<v1::Task> TaskOfOwner(const PrivateRows& private_rows, const v1::Task& task,
                                     int32_t users, int32_t user) {
  ESPALIER_ASSIGN_OR_RETURN(auto kept, private_rows.Kept(task));
  ESPALIER_ASSIGN_OR_RETURN(v1::Task own, AsOwner(task, users, user, kept));
  const std::vector<int32_t>& rounds = kept[own.participant()];
  if (!rounds.empty() && rounds.front() <= task.round()) return own;
  return base::FailedPrecondition(
      "PRIVATE_ROWS_MISSING",
      fmt::format(
          "expected the row of user {} ({} of {}) after round {} in this worker's "
          "--state-dir, found {}; connect the worker that trained the user, and ask for the "
          "job's last checkpoint: rows of the newest two rounds are kept",
          data::Quote(task.recommend().user()), own.participant(), task.job(), task.round(),
          rounds.empty() ? "none" : fmt::format("rounds {}", fmt::join(rounds, ", "))));
}

}  // namespace

absl::StatusOr<RecommenderModel*> RankingModel::Ranked(const v1::Task& task,
                                                       const ParticipantInteractions& mine) {
  tensor::ModelState whole{state().topology, state().values, {}};
  if (has_private_users()) {
    ESPALIER_ASSIGN_OR_RETURN(const auto layout,
                              UserLayout(task, static_cast<int64_t>(mine.users.size())));
    ESPALIER_ASSIGN_OR_RETURN(const auto rows,
                              recommenders_.rows().Load(task, task.round(), layout));
    if (!rows.has_value()) {
      return base::FailedPrecondition(
          "PRIVATE_ROWS_MISSING",
          "expected rows of the users of " + task.participant() +
              " from training, found none in this worker's --state-dir; they are made when the "
              "participant trains: leave federation.cohort_size out");
    }
    ESPALIER_ASSIGN_OR_RETURN(whole, Join(whole, *rows));
  }
  ESPALIER_ASSIGN_OR_RETURN(RecommenderModel * ranked,
                            recommenders_.GetModel(task, whole.topology, mine));
  ESPALIER_RETURN_IF_ERROR(ranked->SetValues(whole.values));
  return ranked;
}

absl::StatusOr<Partial> RankingModel::Evaluate() {
  const v1::EvaluateTask& evaluate = task().evaluate();
  ESPALIER_ASSIGN_OR_RETURN(const auto mine, recommenders_.GetInteractions(task()));
  Partial partial;
  if (mine->asked.size() == 0 || mine->train->size() == 0) return partial;
  ESPALIER_ASSIGN_OR_RETURN(RecommenderModel * ranked, Ranked(task(), *mine));
  const auto scorer = ranked->MakeScorer(mine->had);
  const std::vector<int64_t> cutoffs(evaluate.top_k().begin(), evaluate.top_k().end());
  const int threads = recommenders_.threads();
  const recommender::RankingSums sums =
      evaluate.candidates() == 0
          ? RankAllItems(*scorer, mine->had, mine->asked, cutoffs, threads)
          : RankCandidates(*scorer,
                           DrawNegatives(mine->had, mine->asked, evaluate.candidates(),
                                         base::StreamKey(task().seed(), "ranking-candidates")),
                           mine->asked, cutoffs, threads);
  if (cancelled()) return Cancelled();
  partial.header.set_examples(sums.users);
  for (const auto& at : sums.at) {
    AddMetric("recall", at.cutoff, at.recall, partial.header);
    AddMetric("capped_recall", at.cutoff, at.truncated_recall, partial.header);
    AddMetric("precision", at.cutoff, at.precision, partial.header);
    AddMetric("ndcg", at.cutoff, at.ndcg, partial.header);
    AddMetric("hit_rate", at.cutoff, at.hit_rate, partial.header);
  }
  return partial;
}

absl::StatusOr<Partial> RankingModel::Recommend() {
  const v1::RecommendTask& question = task().recommend();
  ESPALIER_ASSIGN_OR_RETURN(const auto data, recommenders_.GetData(task()));
  if (has_private_users()) ESPALIER_RETURN_IF_ERROR(CheckPrivateQuestion(question, *data));
  ESPALIER_ASSIGN_OR_RETURN(const int32_t number, UserOf(task(), *data, question.user()));
  v1::Task own = task();
  if (has_private_users()) {
    ESPALIER_ASSIGN_OR_RETURN(own, TaskOfOwner(recommenders_.rows(), task(), data->users, number));
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto mine, recommenders_.GetInteractions(own));
  ESPALIER_ASSIGN_OR_RETURN(RecommenderModel * ranked, Ranked(own, *mine));
  // The lists have the owner's users, in order.
  const auto user =
      static_cast<int32_t>(std::ranges::lower_bound(mine->users, number) - mine->users.begin());
  const auto scorer = ranked->MakeScorer(mine->had);
  Partial partial;
  partial.header.set_examples(1);
  for (const recommender::RankedItem& ranked_item :
       TopItems(*scorer, user, mine->had.items(), mine->had.Of(user), question.k())) {
    v1::RecommendedItem& item = *partial.header.add_recommended();
    item.set_item(mine->data->item_ids.Name(ranked_item.item));
    // Scores against known items would give the user's row away.
    if (!has_private_users()) item.set_score(ranked_item.score * scorer->scale());
  }
  return partial;
}

absl::StatusOr<std::vector<float>> RankingModel::Predict(const v1::Examples& examples) {
  if (has_private_users()) {
    return base::FailedPrecondition(
        "PRIVATE_USERS",
        "expected a recommender whose users' rows are in the checkpoint, found one whose rows stay "
        "on workers: scores would give them away; use Recommend (`espalier recommend`)");
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto data, recommenders_.GetData(task()));
  ESPALIER_ASSIGN_OR_RETURN(const auto mine, recommenders_.GetInteractions(task()));
  ESPALIER_ASSIGN_OR_RETURN(RecommenderModel * ranked, Ranked(task(), *mine));
  const auto scorer = ranked->MakeScorer(mine->had);
  std::vector<float> scores;
  for (const v1::Example& example : examples.examples()) {
    if (cancelled()) return Cancelled();
    ESPALIER_ASSIGN_OR_RETURN(const int32_t user, UserOf(task(), *data, example.user()));
    ESPALIER_ASSIGN_OR_RETURN(const int32_t item, ItemOf(*data, example.item()));
    float score = 0;
    scorer->ScoreItems(user, std::span(&item, 1), &score);
    scores.push_back(score * scorer->scale());
  }
  return scores;
}

}  // namespace espalier::worker::tasks
