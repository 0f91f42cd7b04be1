// Metrics of an evaluation, by name, from the sums and counts that workers sent.
//
// docs/evaluation.md has the formulas; tests compare them with scikit-learn's values.
// Threading:   pure functions. Determinism: exact.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"
#include "server/reduce/reducer.h"

namespace espalier::server::methods {

// The counts that an evaluation of the job's model is asked for. `spec` has its defaults.
std::vector<v1::EvaluateTask::Counts> CountsFor(const v1::JobSpec& spec);

// All that can be told of this job's kind of model, in the order in which it is shown. Those that
// have no value are left out, such as the AUC where all examples are of one class.
std::vector<v1::Metric> MetricsOf(const v1::JobSpec& spec, const reduce::Reduced& reduced);

// The same of one participant alone, from sums: those that need counts are left out.
std::vector<v1::Metric> MetricsOf(const v1::JobSpec& spec, const reduce::Score& score);

// The value of the job's main metric among these.
std::optional<double> MainMetric(const v1::JobSpec& spec, const std::vector<v1::Metric>& metrics);

// Writes the metrics into a round's summary: central ones, or federated ones.
void SetMetrics(const v1::JobSpec& spec, const std::vector<v1::Metric>& metrics, bool central,
                v1::RoundSummary& summary);

// Which classes examples were taken for, where the evaluation counted them; without its round.
std::optional<v1::ConfusionMatrix> ConfusionOf(const v1::JobSpec& spec,
                                               const std::vector<int64_t>& counts);

}  // namespace espalier::server::methods
