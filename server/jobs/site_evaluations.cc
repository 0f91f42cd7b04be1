#include "server/jobs/site_evaluations.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

namespace espalier::server::jobs {
namespace {

v1::SiteEvaluation EvaluationOf(const reduce::Score& score, const v1::JobSpec& spec) {
  v1::SiteEvaluation site;
  site.set_worker("workers/" + score.participant);
  site.set_examples(score.examples);
  if (score.examples == 0) return site;
  const auto examples = static_cast<double>(score.examples);
  if (!spec.model().has_recommender()) {
    site.set_loss(score.loss_sum / examples);
    site.set_accuracy(static_cast<double>(score.correct) / examples);
    return site;
  }
  const auto sum = score.metric_sums.find(spec.evaluation().main_metric());
  if (sum != score.metric_sums.end()) site.set_accuracy(sum->second / examples);
  return site;
}

bool IsWorse(const v1::SiteEvaluation& a, const v1::SiteEvaluation& b) {
  const auto key = [](const v1::SiteEvaluation& site) {
    return std::tuple(!site.has_accuracy(), site.accuracy(), std::string_view(site.worker()));
  };
  return key(a) < key(b);
}

}  // namespace

v1::SiteEvaluations EvaluationsOf(const std::vector<reduce::Score>& scores,
                                  const v1::JobSpec& spec) {
  std::vector<v1::SiteEvaluation> sites;
  sites.reserve(scores.size());
  for (const reduce::Score& score : scores) sites.push_back(EvaluationOf(score, spec));
  const size_t kept = std::min(sites.size(), size_t{kMostSites});
  std::partial_sort(sites.begin(), sites.begin() + static_cast<int64_t>(kept), sites.end(),
                    IsWorse);
  v1::SiteEvaluations result;
  result.set_sites_left_out(static_cast<int32_t>(sites.size() - kept));
  for (size_t i = 0; i < kept; ++i) *result.add_sites() = std::move(sites[i]);
  return result;
}

}  // namespace espalier::server::jobs
