// Metrics as scikit-learn has them, from what workers count; see record.py.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/config/validate.h"
#include "server/methods/evaluation/metrics.h"
#include "worker/engine/loss.h"
#include "worker/tasks/network/evaluation_sums.h"

namespace espalier {
namespace {

using Json = nlohmann::json;
using Rows = std::vector<std::vector<float>>;

Json Cases() {
  const char* source = std::getenv("ESPALIER_SOURCE_DIR");
  std::ifstream file(std::string(source == nullptr ? "." : source) +
                     "/tests/golden/metrics/values.json");
  return Json::parse(file);
}

v1::JobSpec SpecOf(const Json& golden) {
  v1::JobSpec spec;
  spec.mutable_model()->set_input_features(1);
  spec.mutable_model()->add_layers()->mutable_linear()->set_units(golden["outputs"][0].size());
  const std::string target = golden["target"];
  if (target == "labels") spec.mutable_data()->set_target(v1::DataSpec::TARGET_LABELS);
  if (target == "values") spec.mutable_data()->set_target(v1::DataSpec::TARGET_VALUES);
  config::ApplyDefaults(spec);
  return spec;
}

std::vector<float> FeatureMajor(const Rows& rows) {
  std::vector<float> values(rows.size() * rows[0].size());
  for (size_t row = 0; row < rows.size(); ++row) {
    for (size_t i = 0; i < rows[row].size(); ++i) values[i * rows.size() + row] = rows[row][i];
  }
  return values;
}

// What a worker sends of these examples, as the coordinator's reducer sums it.
server::reduce::Reduced Evaluate(const v1::JobSpec& spec, const Json& golden) {
  const Rows rows = golden["outputs"];
  const auto size = static_cast<int64_t>(rows.size());
  const auto outputs = static_cast<int64_t>(rows[0].size());
  std::vector<int32_t> labels(rows.size());
  std::vector<float> targets;
  if (golden.contains("labels")) {
    labels = golden["labels"].get<std::vector<int32_t>>();
  } else {
    targets = FeatureMajor(golden["targets"]);
  }
  v1::Task task;
  *task.mutable_data() = spec.data();
  *task.mutable_model()->mutable_spec() = spec.model();
  task.mutable_evaluate();
  for (const auto counts : server::methods::CountsFor(spec)) {
    task.mutable_evaluate()->add_counts(counts);
  }
  worker::tasks::EvaluationSums sums(task, outputs);
  const std::vector<float> values = FeatureMajor(rows);
  const worker::engine::Batch batch = {nullptr, labels.data(), size, size,
                                       targets.empty() ? nullptr : targets.data()};
  sums.Add(batch, values.data());
  worker::tasks::Partial partial;
  sums.Write(partial);
  server::reduce::Reduced reduced;
  reduced.examples = size;
  if (targets.empty()) {
    const worker::engine::BatchResult result = worker::engine::ComputeLoss(
        {worker::engine::Loss::kCrossEntropy, worker::engine::Activation::kLinear, {}},
        values.data(), batch, outputs, size, nullptr);
    reduced.loss_sum = result.loss_sum;
    reduced.correct = result.correct;
  }
  for (const v1::Metric& metric : partial.header.metric_sums()) {
    reduced.metric_sums[metric.name()] = metric.value();
  }
  reduced.counts.resize(partial.body.size() / sizeof(int64_t));
  std::memcpy(reduced.counts.data(), partial.body.data(), partial.body.size());
  return reduced;
}

TEST(MetricsGoldenTest, AreThoseOfScikitLearn) {
  // Scores are counted in 4,096 bins of log odds: those within one are taken as equal.
  const std::map<std::string, double> tolerances = {{"auc", 1e-3}, {"average_precision", 2e-3}};
  for (const Json& golden : Cases()) {
    const v1::JobSpec spec = SpecOf(golden);
    std::map<std::string, double> found;
    for (const v1::Metric& metric : server::methods::MetricsOf(spec, Evaluate(spec, golden))) {
      found[metric.name()] = metric.value();
    }
    for (const auto& [name, expected] : golden["expected"].items()) {
      ASSERT_TRUE(found.contains(name)) << name;
      const auto tolerance = tolerances.find(name);
      EXPECT_NEAR(found[name], expected.get<double>(),
                  tolerance == tolerances.end() ? 1e-6 : tolerance->second)
          << name << " of " << golden["target"];
    }
  }
}

TEST(MetricsGoldenTest, TheConfusionMatrixHasTrueClassesInRows) {
  for (const Json& golden : Cases()) {
    if (!golden.contains("confusion")) continue;
    const v1::JobSpec spec = SpecOf(golden);
    const auto matrix = server::methods::ConfusionOf(spec, Evaluate(spec, golden).counts);
    ASSERT_TRUE(matrix.has_value());
    const std::vector<int64_t> counts(matrix->counts().begin(), matrix->counts().end());
    EXPECT_EQ(counts, golden["confusion"].get<std::vector<int64_t>>());
  }
}

TEST(MetricsGoldenTest, NothingIsMadeUpWithoutExamples) {
  for (const Json& golden : Cases()) {
    const v1::JobSpec spec = SpecOf(golden);
    EXPECT_TRUE(server::methods::MetricsOf(spec, server::reduce::Reduced{}).empty());
  }
}

}  // namespace
}  // namespace espalier
