// What a job knows of its data set: the agreement of its sites, and bounds that follow from it.
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/config/metrics.h"
#include "common/log/log.h"
#include "server/datasets/agreement.h"
#include "server/datasets/dataset_fit.h"
#include "server/jobs/example_bound.h"
#include "server/jobs/job_runner.h"

namespace espalier::server::jobs {

datasets::DatasetViews::Judge JudgeOf(const v1::JobSpec& spec, const v1::DatasetInfo& data) {
  const auto agreed =
      std::make_shared<const datasets::Agreed>(datasets::Agreed{spec.data().agreement(), data, {}});
  return [data_spec = spec.data(), agreed,
          fits = datasets::FitJudge(spec)](const v1::DatasetInfo& info) {
    const std::string deviation = datasets::Deviation(data_spec, *agreed, info);
    return deviation.empty() ? fits(info) : deviation;
  };
}

void JobRunner::AgreeOnData() {
  if (agreeing_ || services_.clock.Elapsed() < agree_again_) return;
  constexpr absl::Duration kBetweenQuestions = absl::Seconds(1);
  agree_again_ = services_.clock.Elapsed() + kBetweenQuestions;
  agreeing_ = true;
  const auto weak = weak_from_this();
  const bool asked = services_.datasets.Ask(datasets::ViewOf(job_.spec()), *pool_->needs().job,
                                            [weak](const datasets::DatasetViews::Answer& answer) {
                                              const auto self = weak.lock();
                                              if (self != nullptr && !self->at_rest())
                                                self->Guard([&] { self->TakeAnswer(answer); });
                                            });
  if (!asked) agreeing_ = false;
}

void JobRunner::TakeAnswer(const datasets::DatasetViews::Answer& answer) {
  agreeing_ = false;
  if (answer.described.empty()) return;
  std::vector<config::Violation> violations;
  std::optional<datasets::Agreed> result =
      datasets::Agree(job_.spec().data(), answer.described, violations);
  if (result.has_value()) {
    for (config::Violation& misfit : datasets::Misfits(job_.spec(), result->info)) {
      violations.push_back(std::move(misfit));
    }
  }
  if (!violations.empty()) {
    Fail(base::FailedPrecondition("DATASETS_DIFFER",
                                  violations[0].field + ": " + violations[0].description));
    return;
  }
  *job_.mutable_spec()->mutable_data()->mutable_agreement() = result->agreement;
  data_ = result->info;
  services_.datasets.Rejudge(*view_, JudgeOf(job_.spec(), data_), answer.described);
  const std::map<std::string, std::string> left_out = view_->LeftOut();
  datasets::TellLeftOut(left_out, job_);
  for (const auto& [worker, reason] : left_out) {
    log::Warning("worker_left_out", {{"job", job_.name()}, {"worker", worker}, {"reason", reason}});
  }
  agreed_ = true;
  Touch();
}

void JobRunner::NoteEvaluation(const v1::RoundSummary& summary, Branch& branch) {
  // The dense model, which is evaluated before it is pruned, belongs to no round.
  std::optional<v1::SiteEvaluations> sites = std::exchange(branch.sites, std::nullopt);
  if (auto confusion = std::exchange(branch.confusion, std::nullopt); confusion.has_value()) {
    confusion->set_round(summary.round());
    *job_.mutable_confusion() = *std::move(confusion);
  }
  const double metric = summary.main_metric();
  const bool best =
      summary.has_main_metric() &&
      (job_.best_round() == 0 ||
       config::IsBetter(job_.spec().evaluation().main_metric(), metric, job_.best_metric()));
  if (best) {
    job_.set_best_metric(metric);
    job_.set_best_round(summary.round());
  }
  if (!sites.has_value()) return;
  sites->set_round(summary.round());
  if (best) *job_.mutable_best_sites() = *sites;
  *job_.mutable_last_sites() = *std::move(sites);
}

void JobRunner::NoteOptimizerStart(const methods::OptimizerStart& start) {
  log::Info("optimizer_begins", {{"job", job_.name()},
                                 {"checkpoint", start.checkpoint},
                                 {"steps", start.steps},
                                 {"why_fresh", start.why_fresh}});
  v1::OptimizerStart& shown = *job_.mutable_optimizer_start();
  shown.set_checkpoint(start.checkpoint);
  shown.set_steps(start.steps);
  shown.set_why_fresh(start.why_fresh);
}

void JobRunner::NoteFeatures(const std::vector<v1::FeatureStrength>& features) {
  std::vector<std::string> names;
  for (const v1::Agreement::Column& column : job_.spec().data().agreement().columns()) {
    if (column.words().empty()) names.push_back(column.name());
    for (const std::string& word : column.words()) names.push_back(column.name() + "=" + word);
  }
  job_.clear_features();
  for (const v1::FeatureStrength& feature : features) {
    v1::FeatureStrength& named = *job_.add_features();
    named = feature;
    // Data without columns, such as images, has no names.
    const auto index = static_cast<size_t>(feature.index());
    if (index < names.size()) named.set_name(names[index]);
  }
}

void JobRunner::NoteRun(const v1::RoundSummary& summary, const Kept& kept) {
  auto& runs = *job_.mutable_runs();
  auto run = std::find_if(runs.begin(), runs.end(),
                          [&](const v1::Run& other) { return other.name() == summary.run(); });
  if (run == runs.end()) {
    runs.Add()->set_name(summary.run());
    run = runs.end() - 1;
    run->set_rounds(job_.spec().federation().rounds());
  }
  run->set_round(summary.run_round());
  run->set_density(summary.density());
  run->set_active_weights(summary.active_weights());
  run->set_model_hash(kept.model_hash);
  if (kept.checkpoint.has_value()) run->set_latest_checkpoint(kept.checkpoint->name);
  if (!summary.has_main_metric()) return;
  run->set_last_metric(summary.main_metric());
  if (run->best_round() != 0 && !config::IsBetter(job_.spec().evaluation().main_metric(),
                                                  summary.main_metric(), run->best_metric())) {
    return;
  }
  run->set_best_metric(summary.main_metric());
  run->set_best_round(summary.run_round());
}

void JobRunner::BoundExamples(const v1::Task& task,
                              std::vector<round::ParticipantSpec>& participants) const {
  const v1::JobSpec& spec = job_.spec();
  if (view_ == nullptr) return;
  const std::set<std::string>& able = pool_->able();
  // Divided data is the same at all workers that can do the job.
  const v1::DatasetInfo* common = able.empty() ? nullptr : view_->Find(*able.begin());
  for (round::ParticipantSpec& participant : participants) {
    const v1::DatasetInfo* info =
        participant.only_worker.empty() ? common : view_->Find(participant.only_worker);
    if (info != nullptr) participant.most_examples = MostExamples(spec, task, *info);
  }
}

}  // namespace espalier::server::jobs
