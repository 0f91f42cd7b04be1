#include "common/config/validate_interactions.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace espalier::config {
namespace {

constexpr int32_t kMaxTopK = 1000;
constexpr int kMaxTopKs = 10;
constexpr int32_t kMaxCandidates = 100'000;
constexpr int32_t kMaxCore = 1'000'000;
constexpr int32_t kMaxHeldOut = 100'000'000;

using I = v1::Interactions;

void ValidateSplit(const I& how, const Checker& at) {
  if (!at.Enum("split", I::Split_IsValid(how.split()), how.split())) return;
  const auto only = [&](bool given, const char* field, I::Split split, const char* word) {
    at.Check(!given || how.split() == split, field,
             fmt::format("applies to split: {} only; remove it", word));
  };
  only(how.test_ratio() != 0, "test_ratio", I::SPLIT_RATIO, "ratio");
  only(how.held_out_users() != 0, "held_out_users", I::SPLIT_HELD_OUT_USERS, "held_out_users");
  only(how.fold_in() != 0, "fold_in", I::SPLIT_HELD_OUT_USERS, "held_out_users");
  at.Number("test_ratio", how.test_ratio(), how.test_ratio() >= 0 && how.test_ratio() < 1,
            "0 < x < 1");
  at.Number("fold_in", how.fold_in(), how.fold_in() >= 0 && how.fold_in() < 1, "0 < x < 1");
  at.Whole("held_out_users", how.held_out_users(), 0, kMaxHeldOut);
  at.Check(!how.validate() || (how.split() != I::SPLIT_RATIO && how.split() != I::SPLIT_GIVEN),
           "validate",
           "applies to split: leave_one_out and held_out_users only, which keep a validation part; "
           "remove it");
}

void ValidateHow(const v1::JobSpec& spec, const Checker& at) {
  const I& how = spec.data().interactions();
  at.Enum("format", I::Format_IsValid(how.format()), how.format());
  at.Number("min_rating", how.min_rating(), true, "a finite number");
  at.Whole("user_core", how.user_core(), 0, kMaxCore);
  at.Whole("item_core", how.item_core(), 0, kMaxCore);
  at.Check(how.item_core() <= 1 || spec.data().partition().kind() != v1::Partition::KIND_LOCAL,
           "item_core", "workers with local data cannot count items together; remove it");
  at.Check(how.split() != I::SPLIT_HELD_OUT_USERS || spec.model().recommender().has_multvae(),
           "split",
           "held_out_users needs a model that ranks users it never saw: multvae; use "
           "leave_one_out, ratio or given");
  ValidateSplit(how, at);
}

bool IsMetric(const std::string& name, const v1::Evaluation& evaluation) {
  constexpr std::array kMetrics = {"recall", "capped_recall", "precision", "ndcg", "hit_rate"};
  constexpr int32_t kDefault = 20;
  const auto is_at = [&](int32_t k) {
    return std::any_of(kMetrics.begin(), kMetrics.end(),
                       [&](const char* metric) { return name == fmt::format("{}@{}", metric, k); });
  };
  if (evaluation.top_k().empty()) return is_at(kDefault);
  return std::any_of(evaluation.top_k().begin(), evaluation.top_k().end(), is_at);
}

void ValidateRanking(const v1::JobSpec& spec, const Checker& at) {
  const v1::Evaluation& evaluation = spec.evaluation();
  if (evaluation.top_k_size() > kMaxTopKs) {
    return at.Fail("top_k", fmt::format("expected at most {} lengths, found {}", kMaxTopKs,
                                        evaluation.top_k_size()));
  }
  for (int i = 0; i < evaluation.top_k_size(); ++i) {
    const std::string field = fmt::format("top_k[{}]", i);
    at.Whole(field, evaluation.top_k(i), 1, kMaxTopK);
    at.Check(i == 0 || evaluation.top_k(i - 1) < evaluation.top_k(i), field,
             "must be greater than the one before");
  }
  at.Whole("candidates", evaluation.candidates(), 0, kMaxCandidates);
  at.Check(evaluation.main_metric().empty() || IsMetric(evaluation.main_metric(), evaluation),
           "main_metric",
           fmt::format("expected recall, capped_recall, precision, ndcg or hit_rate with '@' and "
                       "one of top_k, found {}",
                       Quoted(evaluation.main_metric())));
  at.Check(!evaluation.central() || !spec.model().recommender().private_users(), "central",
           "no single worker has the rows of all users when they are private; use federated");
}

}  // namespace

void ValidateInteractions(const v1::JobSpec& spec, const Checker& root) {
  using P = v1::Partition;
  const P::Kind kind = spec.data().partition().kind();
  root.In("data.partition")
      .Check(kind == P::KIND_UNSPECIFIED || kind == P::KIND_USERS || kind == P::KIND_LOCAL, "kind",
             "interactions are divided by users, so that all that a user did is on one shard; use "
             "kind: users, or local");
  const v1::RecommenderSpec& model = spec.model().recommender();
  root.In("data.partition")
      .Check(kind != P::KIND_LOCAL || model.private_users() || model.has_multvae(), "kind",
             "with local data each worker has users of its own, so their rows cannot be averaged; "
             "set model.recommender.private_users, or use kind: users");
  for (int i = 0; i < model.autoint().fields_size(); ++i) {
    root.In(fmt::format("model.recommender.autoint.fields[{}]", i))
        .Check(!model.autoint().fields(i).name().empty(), "name",
               "expected the column of the data set, such as gender or genres, found none");
  }
  ValidateHow(spec, root.In("data.interactions"));
  ValidateRanking(spec, root.In("evaluation"));
  const Checker data = root.In("data");
  data.Check(spec.data().train_limit() == 0, "train_limit", "does not go with interactions");
  data.Check(spec.data().test_limit() == 0, "test_limit", "does not go with interactions");
  data.Check(spec.data().test_fraction() == 0, "test_fraction",
             "does not go with interactions; see data.interactions.split");
  root.In("training")
      .Check(spec.training().proximal_mu() == 0 && !spec.training().control_variates() &&
                 spec.training().activation_pruning() == 0,
             "proximal_mu",
             "proximal_mu, control_variates and activation_pruning do not go with a recommender");
}

}  // namespace espalier::config
