// The tasks whose results the targets decode, on the model of small_model.h: one for each way in
// which results are written and added up.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "common/wire/model_spec/result_sections.h"
#include "server/reduce/reducer.h"
#include "server/reduce/statistics_reducer.h"
#include "tests/fuzz/small_model.h"

namespace espalier::fuzz {

struct ResultTask {
  v1::Task task;
  wire::Sections sections;
  server::reduce::ReducerKind kind = server::reduce::ReducerKind::kMean;
  server::reduce::Aggregation aggregation = {};
};

inline v1::Task TrainTask() {
  v1::Task task;
  task.mutable_train()->set_learning_rate(0.1);
  v1::ModelSpec& spec = *task.mutable_model()->mutable_spec();
  spec.set_input_features(6);
  spec.add_layers()->mutable_linear()->set_units(4);
  spec.add_layers()->mutable_linear()->set_units(3);
  return task;
}

inline std::vector<ResultTask> MakeResultTasks() {
  using server::reduce::ReducerKind;
  using server::reduce::Rule;
  std::vector<ResultTask> tasks;
  const auto add = [&tasks](const v1::Task& task, ReducerKind kind = ReducerKind::kMean,
                            const server::reduce::Aggregation& aggregation = {},
                            v1::SectionType up = v1::SECTION_TYPE_F32) {
    tasks.push_back({task, wire::SectionsOf(task, *SmallStructure(), up), kind, aggregation});
  };
  const v1::Task train = TrainTask();
  add(train);
  add(train, ReducerKind::kMean, {}, v1::SECTION_TYPE_INT8);
  add(train, ReducerKind::kMean, {}, v1::SECTION_TYPE_BF16);
  add(train, ReducerKind::kMean, {.rule = Rule::kMedian});
  add(train, ReducerKind::kMean, {.rule = Rule::kKrum, .clip_norm = 1, .keep_updates = true});
  v1::Task growing = train;
  v1::GrowthReport& report = *growing.mutable_train()->add_additions()->mutable_growth();
  for (const int64_t count : {3, 0, 0, 0}) report.add_counts(count);
  report.set_active(true);
  add(growing);
  add(growing, ReducerKind::kMean, {.rule = Rule::kTrimmedMean});
  v1::Task moving = train;
  v1::Readjustment& readjustment = *moving.mutable_train()->add_additions()->mutable_readjustment();
  for (const int64_t count : {2, 0, 0, 0}) readjustment.add_counts(count);
  add(moving, ReducerKind::kOwnersMean);
  add(moving, ReducerKind::kOwnersMean, {}, v1::SECTION_TYPE_INT8);
  v1::Task weighing = train;
  weighing.mutable_train()->add_additions()->mutable_importance();
  add(weighing);
  v1::Task counting = train;
  counting.mutable_evaluate()->add_counts(v1::EvaluateTask::COUNTS_CONFUSION);
  add(counting, ReducerKind::kMetrics);
  v1::Task calibrating = train;
  calibrating.mutable_calibrate();
  add(calibrating);
  v1::Task looking = train;
  looking.mutable_growth()->add_counts(2);
  looking.mutable_growth()->add_thresholds(0.5);
  add(looking);
  v1::Task measuring = train;
  auto& first = *measuring.mutable_activation_statistics()->add_inputs();
  first.set_columns(3);
  first.set_gram(true);
  measuring.mutable_activation_statistics()->add_inputs()->set_columns(2);
  add(measuring, ReducerKind::kStatistics);
  return tasks;
}

inline const std::vector<ResultTask>& ResultTasks() {
  static const std::vector<ResultTask> tasks = MakeResultTasks();
  return tasks;
}

// The values that the tasks begin with.
inline const std::vector<float>& StartValues() {
  static const std::vector<float> values(static_cast<size_t>(SmallStructure()->total_stored()),
                                         0.5F);
  return values;
}

inline std::unique_ptr<server::reduce::Reducer> ReducerOf(const ResultTask& task) {
  if (task.kind == server::reduce::ReducerKind::kStatistics) {
    std::vector<server::reduce::StatisticsInput> inputs;
    for (const auto& input : task.task.activation_statistics().inputs()) {
      inputs.push_back({input.columns(), input.gram()});
    }
    return std::make_unique<server::reduce::StatisticsReducer>(std::move(inputs));
  }
  return server::reduce::MakeReducer(task.kind, SmallStructure(),
                                     wire::ResultLayoutOf(task.task, *SmallStructure()),
                                     task.aggregation, StartValues());
}

}  // namespace espalier::fuzz
