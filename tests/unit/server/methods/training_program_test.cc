#include <gtest/gtest.h>

#include <cmath>

#include "common/wire/model_spec/result_sections.h"
#include "common/wire/model_spec/train_additions.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

TEST(TrainingProgramTest, EvaluatesCentrallyWhenNothingIsSaid) {
  const auto trace = Trace(SmallJob("dense"));
  const Step& evaluate = *trace.transitions[1].state.step;
  ASSERT_TRUE(evaluate.task.has_evaluate());
  EXPECT_TRUE(evaluate.task.evaluate().whole_test_split());
  EXPECT_EQ(evaluate.participants, Participants::kAnyOne);
  EXPECT_EQ(evaluate.reducer, reduce::ReducerKind::kMetrics);
  EXPECT_EQ(evaluate.round, 1);
  EXPECT_TRUE(trace.transitions[2].committed);
}

TEST(TrainingProgramTest, FederatedEvaluationComesBeforeTheCentralOne) {
  v1::JobSpec spec = SmallJob("dense");
  spec.mutable_evaluation()->set_federated(true);
  spec.mutable_evaluation()->set_central(true);
  const auto trace = Trace(spec);
  EXPECT_EQ(trace.transitions[1].state.step->participants, Participants::kAll);
  EXPECT_FALSE(trace.transitions[1].state.step->task.evaluate().whole_test_split());
  EXPECT_EQ(trace.transitions[2].state.step->participants, Participants::kAnyOne);
  EXPECT_TRUE(trace.transitions[3].committed);
}

TEST(TrainingProgramTest, FederatedEvaluationAloneCommits) {
  v1::JobSpec spec = SmallJob("dense");
  spec.mutable_evaluation()->set_federated(true);
  const auto trace = Trace(spec);
  EXPECT_TRUE(trace.transitions[2].committed);
  EXPECT_FALSE(trace.rounds[0].has_test_loss());
  EXPECT_TRUE(trace.rounds[0].has_federated_test_loss());
}

TEST(TrainingProgramTest, LastRoundIsAlwaysEvaluated) {
  v1::JobSpec spec = SmallJob("dense");
  spec.mutable_evaluation()->set_every_rounds(7);
  const auto trace = Trace(spec);
  for (const v1::RoundSummary& summary : trace.rounds) {
    EXPECT_EQ(summary.has_test_loss(), summary.round() % 7 == 0 || summary.round() == 20);
  }
}

TEST(TrainingProgramTest, ScheduleAndFirstStepGoIntoTheTask) {
  v1::JobSpec spec = SmallJob("dense");
  spec.mutable_training()->set_local_steps(11);
  spec.mutable_training()->mutable_schedule()->set_kind(v1::LearningRateSchedule::KIND_STEP);
  spec.mutable_training()->mutable_schedule()->add_milestones(3);
  for (const Transition& transition : Trace(spec).transitions) {
    if (!transition.state.step || !transition.state.step->task.has_train()) continue;
    const v1::TrainTask& train = transition.state.step->task.train();
    EXPECT_EQ(train.first_step(), (transition.state.step->round - 1) * 11);
    EXPECT_DOUBLE_EQ(train.learning_rate(), transition.state.step->round < 3 ? 0.3 : 0.03);
    EXPECT_EQ(train.training().batch_size(), 32);
  }
}

TEST(TrainingProgramTest, EchoLeavesTheModelAsItIs) {
  const auto trace = Trace(SmallJob("echo"));
  EXPECT_EQ(trace.final_state.model.values, trace.transitions[0].state.model.values);
  EXPECT_EQ(trace.transitions.size(), 21u);
}

TEST(TrainingProgramTest, TrainingApproachesTheTargets) {
  const auto trace = Trace(SmallJob("dense"));
  EXPECT_LT(trace.rounds.back().train_loss(), trace.rounds.front().train_loss());
}

// 1 × 5 × 6 → conv 2 → batch norm → linear 10.
v1::JobSpec RecalibratedJob() {
  v1::JobSpec spec = ImageJob("dense", 5, 6, 2);
  AddLayer(spec, 10, v1::ACTIVATION_LINEAR);
  spec.mutable_federation()->set_rounds(4);
  spec.mutable_evaluation()->set_every_rounds(2);
  return spec;
}

std::vector<int> Recalibrated(const v1::JobSpec& spec) {
  std::vector<int> rounds;
  for (const Transition& transition : Trace(spec).transitions) {
    if (!transition.state.step || !transition.state.step->task.has_calibrate()) continue;
    EXPECT_EQ(transition.state.step->participants, Participants::kAll);
    EXPECT_EQ(transition.state.step->task.calibrate().development_fraction(), 1);
    rounds.push_back(transition.state.step->round);
  }
  return rounds;
}

TEST(TrainingProgramTest, RecalibratesBeforeTheEvaluationsItWasToldTo) {
  v1::JobSpec spec = RecalibratedJob();
  EXPECT_EQ(Recalibrated(spec), (std::vector<int>{}));
  spec.mutable_evaluation()->set_recalibration(v1::Evaluation::RECALIBRATION_LAST);
  EXPECT_EQ(Recalibrated(spec), (std::vector<int>{4}));
  spec.mutable_evaluation()->set_recalibration(v1::Evaluation::RECALIBRATION_EVERY);
  EXPECT_EQ(Recalibrated(spec), (std::vector<int>{2, 4}));
  v1::JobSpec plain = SmallJob("dense");
  plain.mutable_evaluation()->set_recalibration(v1::Evaluation::RECALIBRATION_EVERY);
  EXPECT_EQ(Recalibrated(plain), (std::vector<int>{})) << "there are no running statistics";
}

TEST(TrainingProgramTest, RecalibratedStatisticsAreKeptAndEvaluated) {
  v1::JobSpec spec = RecalibratedJob();
  spec.mutable_evaluation()->set_recalibration(v1::Evaluation::RECALIBRATION_LAST);
  const auto trace = Trace(spec);
  // Participants 1, 2 and 3 with 10, 20 and 30 examples report their number: 14 / 6.
  const tensor::ModelState& model = *trace.transitions.back().checkpoint;
  EXPECT_EQ(model.tensor(4)[1], static_cast<float>(14.0 / 6));
  EXPECT_EQ(model.tensor(5)[0], static_cast<float>(14.0 / 6));
  spec.mutable_evaluation()->set_pooled_variance(true);
  const auto pooled = Trace(spec);
  EXPECT_EQ(pooled.transitions.back().checkpoint->tensor(5)[0], 0.0F) << "means of squares 14 / 6";
}

// n = (10, 30), means (1, 2), variances (1, 0.5): the mean of the variances is 0.625, the variance
// of all 40 examples 0.8125.
TEST(TrainingProgramTest, RunningVariancesOfARoundAreAveragedOrPooled) {
  for (const bool pooled : {false, true}) {
    v1::JobSpec spec = RecalibratedJob();
    spec.mutable_aggregation()->set_pooled_variance(pooled);
    const auto program = MethodRegistry::Builtin().Make(spec).value();
    const Transition start = program->Start().value();
    EXPECT_EQ(wire::HasAddition(start.state.step->task.train(), v1::TrainAddition::kSecondMoments),
              pooled);
    const tensor::ModelState& model = start.state.model;
    const auto reducer =
        reduce::MakeReducer(start.state.step->reducer, model.topology,
                            wire::ResultLayoutOf(start.state.step->task, *model.topology),
                            start.state.step->aggregation);
    const auto send = [&](const std::string& name, int64_t examples, float mean, float variance) {
      std::vector<float> values = model.values;
      for (size_t i = 0; i < model.topology->num_tensors(); ++i) {
        if (!model.topology->layout()[i].buffer) continue;
        const bool is_mean = model.topology->layout()[i].name.ends_with("mean");
        const float reported = is_mean ? mean : variance + (pooled ? mean * mean : 0);
        std::fill_n(values.begin() + model.topology->offset(i), model.topology->stored(i),
                    reported);
      }
      reduce::Partial partial;
      partial.participant = name;
      partial.examples = examples;
      partial.values_count = static_cast<int64_t>(values.size());
      partial.values = [values](const auto& sink) { return sink(values); };
      EXPECT_TRUE(reducer->Merge(partial).ok());
    };
    send("0", 10, 1, 1);
    send("1", 30, 2, 0.5F);
    const Transition next = program->Next(start.state, reducer->Finish().value()).value();
    for (size_t i = 0; i < model.topology->num_tensors(); ++i) {
      const tensor::TensorSpec& tensor = model.topology->layout()[i];
      if (!tensor.buffer) continue;
      const float expected = tensor.name.ends_with("mean") ? 1.75F : pooled ? 0.8125F : 0.625F;
      for (const float value : next.state.model.tensor(i)) EXPECT_EQ(value, expected);
    }
  }
}

TEST(TrainingProgramTest, ChannelsAreMeasuredBeforeAnythingElse) {
  for (const char* method : {"dense", "set", "fedtiny"}) {
    v1::JobSpec spec = RecalibratedJob();
    spec.mutable_method()->set_name(method);
    spec.mutable_data()->set_normalization(v1::DataSpec::NORMALIZATION_FEDERATED);
    const auto program = MethodRegistry::Builtin().Make(spec).value();
    const Transition start = program->Start().value();
    ASSERT_TRUE(start.state.step->task.has_channel_statistics());
    EXPECT_TRUE(start.state.step->prelude);
    EXPECT_EQ(start.state.step->participants, Participants::kAll);
    EXPECT_EQ(start.state.model.topology->sparsifiable_stored(), 0);
    reduce::Reduced reduced;
    reduced.examples = 10;
    // Mean, mean / 2^60, mean of squares, and that / 2^60.
    std::vector<float>& statistics = reduced.sections[v1::SECTION_KIND_CHANNEL_STATISTICS];
    const auto told = [&statistics](double mean, double square) {
      statistics.clear();
      for (const double value : {mean, square}) {
        statistics.push_back(std::abs(value) < 1e9 ? static_cast<float>(value) : 0.0F);
        statistics.push_back(static_cast<float>(value * 0x1p-60));
      }
    };
    told(0.5, 0);
    const Transition again = program->Next(start.state, reduced).value();
    ASSERT_TRUE(again.state.step->task.has_channel_statistics()) << "from the mean, for its digits";
    EXPECT_EQ(again.normalization->mean, (std::vector<double>{0.5}));
    EXPECT_EQ(again.normalization->std, (std::vector<double>{1}));
    EXPECT_EQ(again.prelude_step->phase(), "channel_statistics");
    told(0.0625, 0.25 + 0.0625 * 0.0625);
    const Transition next = program->Next(again.state, reduced).value();
    ASSERT_TRUE(next.normalization);
    EXPECT_EQ(next.normalization->mean, (std::vector<double>{0.5625}));
    EXPECT_EQ(next.normalization->std, (std::vector<double>{0.5}));
    EXPECT_EQ(next.prelude_step->phase(), "channel_statistics");
    spec.mutable_data()->clear_normalization();
    const Transition plain = MethodRegistry::Builtin().Make(spec).value()->Start().value();
    EXPECT_EQ(next.state.model.values, plain.state.model.values) << method;
    EXPECT_EQ(next.state.phase, plain.state.phase);
    told(1e-10, 1e-19);
    EXPECT_EQ(program->Next(again.state, reduced)->normalization->std[0], 1) << "never changes";
    told(0x1p40, 0);
    const Transition far = program->Next(start.state, reduced).value();
    told(-0x1p10, 0x1p60 + 0x1p20);
    EXPECT_EQ(program->Next(far.state, reduced)->normalization->mean[0], 0x1p40 - 0x1p10);
    EXPECT_FLOAT_EQ(program->Next(far.state, reduced)->normalization->std[0], 0x1p30);
    statistics = {0.25F};
    EXPECT_FALSE(program->Next(start.state, reduced).ok());
  }
}

}  // namespace
}  // namespace espalier::server::methods
