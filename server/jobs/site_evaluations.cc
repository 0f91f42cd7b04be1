#include "server/jobs/site_evaluations.h"

#include <algorithm>
#include <string_view>
#include <tuple>
#include <utility>

#include "common/config/metrics.h"
#include "common/wire/model_spec/families/model_family.h"
#include "server/methods/evaluation/metrics.h"

namespace espalier::server::jobs {
namespace {

v1::SiteEvaluation EvaluationOf(const reduce::Score& score, const v1::JobSpec& spec) {
  v1::SiteEvaluation site;
  site.set_worker("workers/" + score.participant);
  site.set_examples(score.examples);
  if (score.examples == 0) return site;
  if (wire::FamilyOf(spec.model()).Offers(wire::ModelNeed::kLoss)) {
    site.set_loss(score.loss_sum / static_cast<double>(score.examples));
  }
  const auto main = methods::MainMetric(spec, methods::MetricsOf(spec, score));
  if (main.has_value()) site.set_main_metric(*main);
  return site;
}

}  // namespace

v1::SiteEvaluations EvaluationsOf(const std::vector<reduce::Score>& scores,
                                  const v1::JobSpec& spec) {
  std::vector<v1::SiteEvaluation> sites;
  sites.reserve(scores.size());
  for (const reduce::Score& score : scores) sites.push_back(EvaluationOf(score, spec));
  const size_t kept = std::min(sites.size(), size_t{kMostSites});
  const double sign = config::LowerIsBetter(spec.evaluation().main_metric()) ? -1 : 1;
  const auto key = [sign](const v1::SiteEvaluation& site) {
    return std::tuple(!site.has_main_metric(), sign * site.main_metric(),
                      std::string_view(site.worker()));
  };
  std::partial_sort(sites.begin(), sites.begin() + static_cast<int64_t>(kept), sites.end(),
                    [&](const auto& a, const auto& b) { return key(a) < key(b); });
  v1::SiteEvaluations result;
  result.set_sites_left_out(static_cast<int32_t>(sites.size() - kept));
  for (size_t i = 0; i < kept; ++i) *result.add_sites() = std::move(sites[i]);
  return result;
}

}  // namespace espalier::server::jobs
