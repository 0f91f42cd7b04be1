#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "common/wire/model_spec/model_spec.h"
#include "server/methods/initial_values.h"
#include "tests/support/fake_fleet.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

using test::JobTrace;
using ::testing::ElementsAre;

v1::JobSpec ImpJob(int rounds = 4) {
  v1::JobSpec spec = SmallJob("imp");
  spec.mutable_federation()->set_rounds(rounds);
  SetInt(spec, "levels", 3);
  return spec;
}

// The first state of each run, and its model after the last round.
struct Ends {
  ProgramState first;
  tensor::ModelState last;
};
std::map<std::string, Ends> RunsOf(const JobTrace& trace) {
  std::map<std::string, Ends> runs;
  for (const Transition& transition : trace.transitions) {
    for (const ProgramState& run : transition.state.runs) {
      if (!runs.contains(run.run)) runs[run.run].first = run;
      runs[run.run].last = run.model;
    }
    for (const Outcome& outcome : transition.of_runs) {
      if (outcome.checkpoint != nullptr) runs[outcome.run].last = *outcome.checkpoint;
    }
  }
  return runs;
}

std::vector<float> WeightsOf(const tensor::ModelState& model) {
  std::vector<float> all;
  for (size_t i = 0; i < model.topology->num_tensors(); ++i) {
    if (!model.topology->layout()[i].sparsifiable) continue;
    const auto values = model.tensor(i);
    all.insert(all.end(), values.begin(), values.end());
  }
  return all;
}

// Positions of a tensor, dense or not.
std::vector<int64_t> Positions(const tensor::ModelTopology& topology, size_t tensor) {
  return topology.Structure(tensor).value()->Positions();
}

// Remaining weights: n − ⌈n / 5⌉ at each level, computed apart.
TEST(ImpTest, PrunesAFifthOfWhatIsLeftRoundedUp) {
  v1::JobSpec spec = ImpJob(1);
  spec.clear_model();
  spec.mutable_model()->set_input_features(784);
  AddLayer(spec, 300, v1::ACTIVATION_RELU);
  AddLayer(spec, 100, v1::ACTIVATION_RELU);
  AddLayer(spec, 10, v1::ACTIVATION_LINEAR);
  SetInt(spec, "levels", 9);
  SetWord(spec, "controls", "none");
  const JobTrace trace = Trace(spec);
  std::vector<int64_t> weights;
  weights.reserve(trace.rounds.size());
  for (const v1::RoundSummary& round : trace.rounds) weights.push_back(round.active_weights());
  EXPECT_THAT(weights, ElementsAre(266200, 212960, 170368, 136294, 109035, 87228, 69782, 55825,
                                   44660, 35728));
}

TEST(ImpTest, KeepsTheLargestWeightsOfAllLayersAndGoesBackToTheirInitialValues) {
  const auto runs = RunsOf(Trace(ImpJob()));
  const tensor::ModelState& initial = runs.at("dense").first.model;
  const tensor::ModelState& trained = runs.at("dense").last;
  const tensor::ModelState& ticket = runs.at("ticket-1").first.model;
  std::vector<float> magnitudes = WeightsOf(trained);
  for (float& value : magnitudes) value = std::abs(value);
  std::ranges::sort(magnitudes);
  // ⌈0.2 · 630⌉ go: 600 weights, 20 and 10.
  const float smallest_kept = magnitudes[126];
  EXPECT_EQ(WeightsOf(ticket).size(), 630u - 126u);
  for (size_t i = 0; i < trained.topology->num_tensors(); ++i) {
    if (!trained.topology->layout()[i].sparsifiable) continue;
    const std::vector<int64_t> kept = Positions(*ticket.topology, i);
    for (int64_t position = 0; position < trained.topology->layout()[i].size(); ++position) {
      const bool is_kept = std::ranges::binary_search(kept, position);
      EXPECT_EQ(is_kept, std::abs(trained.tensor(i)[position]) >= smallest_kept);
    }
    for (size_t k = 0; k < kept.size(); ++k) {
      EXPECT_EQ(ticket.tensor(i)[k], initial.tensor(i)[kept[k]]);
    }
  }
  // Each level prunes what the one before it trained, and goes back to the same weights.
  const tensor::ModelState& second = runs.at("ticket-2").first.model;
  for (size_t i = 0; i < second.topology->num_tensors(); ++i) {
    if (!second.topology->layout()[i].sparsifiable) continue;
    const std::vector<int64_t> before = Positions(*ticket.topology, i);
    const std::vector<int64_t> kept = Positions(*second.topology, i);
    EXPECT_TRUE(std::ranges::includes(before, kept));
    for (size_t k = 0; k < kept.size(); ++k) {
      EXPECT_EQ(second.tensor(i)[k], initial.tensor(i)[kept[k]]);
    }
  }
}

TEST(ImpTest, RewindsToTheModelAfterARoundAndGoesOnFromThere) {
  v1::JobSpec spec = ImpJob();
  SetInt(spec, "rewind_round", 2);
  spec.mutable_training()->set_local_steps(5);
  spec.mutable_training()->mutable_schedule()->set_kind(v1::LearningRateSchedule::KIND_COSINE);
  const JobTrace trace = Trace(spec);
  // Before the dense run's third round.
  const ProgramState* early = nullptr;
  for (const Transition& transition : trace.transitions) {
    const auto& runs = transition.state.runs;
    if (runs.size() == 1 && runs[0].round == 2 && runs[0].phase == "train") early = &runs[0];
  }
  ASSERT_NE(early, nullptr);
  const auto runs = RunsOf(trace);
  const ProgramState& ticket = runs.at("ticket-1").first;
  for (size_t i = 0; i < ticket.model.topology->num_tensors(); ++i) {
    const std::vector<int64_t> kept = Positions(*ticket.model.topology, i);
    for (size_t k = 0; k < kept.size(); ++k) {
      EXPECT_EQ(ticket.model.tensor(i)[k], early->model.tensor(i)[kept[k]]);
    }
  }
  // The clock of training, and with it schedule and data, is that of the dense run's third round.
  EXPECT_EQ(ticket.step->round, 3);
  EXPECT_EQ(ticket.step->task.train().first_step(), 10);
  EXPECT_EQ(ticket.step->task.SerializeAsString(), early->step->task.SerializeAsString());
  EXPECT_EQ(runs.at("reinit-1").first.step->round, 1) << "new weights are trained from the start";
  EXPECT_EQ(runs.at("random-1").first.step->round, 3);
}

TEST(ImpTest, ControlsDifferFromTheTicketInOneThing) {
  const auto runs = RunsOf(Trace(ImpJob()));
  const tensor::ModelState& initial = runs.at("dense").first.model;
  for (const char* level : {"1", "3"}) {
    const tensor::ModelState& ticket = runs.at(std::string("ticket-") + level).first.model;
    const tensor::ModelState& reinit = runs.at(std::string("reinit-") + level).first.model;
    const tensor::ModelState& random = runs.at(std::string("random-") + level).first.model;
    EXPECT_EQ(reinit.topology->hash(), ticket.topology->hash());
    EXPECT_NE(reinit.values, ticket.values);
    EXPECT_NE(random.topology->hash(), ticket.topology->hash());
    for (size_t i = 0; i < random.topology->num_tensors(); ++i) {
      EXPECT_EQ(random.topology->stored(i), ticket.topology->stored(i));
      const std::vector<int64_t> places = Positions(*random.topology, i);
      for (size_t k = 0; k < places.size(); ++k) {
        EXPECT_EQ(random.tensor(i)[k], initial.tensor(i)[places[k]]);
      }
    }
  }
  EXPECT_NE(runs.at("reinit-1").first.model.tensor(0)[0],
            runs.at("reinit-3").first.model.tensor(0)[0]);
}

TEST(ImpTest, RunsOfALevelAreSideBySideAndRoundsCountOn) {
  v1::JobSpec spec = ImpJob();
  SetInt(spec, "rewind_round", 1);
  const JobTrace trace = Trace(spec);
  std::vector<std::string> names;
  for (size_t i = 0; i < trace.rounds.size(); ++i) {
    const v1::RoundSummary& round = trace.rounds[i];
    EXPECT_EQ(round.round(), static_cast<int32_t>(i) + 1);
    if (i >= 4 && i < 14) names.push_back(round.run() + " " + std::to_string(round.run_round()));
  }
  // The new weights have a round more to go.
  EXPECT_THAT(names,
              ElementsAre("ticket-1 2", "reinit-1 1", "random-1 2", "ticket-1 3", "reinit-1 2",
                          "random-1 3", "ticket-1 4", "reinit-1 3", "random-1 4", "reinit-1 4"));
  EXPECT_EQ(static_cast<int32_t>(trace.rounds.size()), MethodRegistry::Builtin().TotalRounds(spec));
  EXPECT_EQ(trace.rounds.size(), 4u + 3 * (3 + 4 + 3));
}

TEST(ImpTest, ByLayerTheLastOneIsPrunedAtAShareOfTheRate) {
  v1::JobSpec spec = ImpJob(1);
  SetWord(spec, "scope", "layer");
  SetDouble(spec, "output_share", 0.5);
  SetInt(spec, "levels", 1);
  const auto runs = RunsOf(Trace(spec));
  const tensor::ModelTopology& ticket = *runs.at("ticket-1").first.model.topology;
  EXPECT_EQ(ticket.stored(0), 480);
  EXPECT_EQ(ticket.stored(2), 16);
  EXPECT_EQ(ticket.stored(4), 9);
}

TEST(ImpTest, NoLayerLosesItsLastWeight) {
  v1::JobSpec spec = ImpJob(1);
  SetDouble(spec, "rate", 0.95);
  const auto runs = RunsOf(Trace(spec));
  const tensor::ModelTopology& last = *runs.at("ticket-3").first.model.topology;
  for (size_t i = 0; i < last.num_tensors(); ++i) EXPECT_GE(last.stored(i), 1);
}

// Scales and shifts are learned and go back; what was counted of the data begins anew.
TEST(ImpTest, RunningStatisticsStartAnew) {
  v1::JobSpec spec = ConvJob("imp");
  spec.mutable_federation()->set_rounds(3);
  SetInt(spec, "levels", 1);
  SetInt(spec, "rewind_round", 2);
  const JobTrace trace = Trace(spec);
  const auto runs = RunsOf(trace);
  const tensor::ModelState& ticket = runs.at("ticket-1").first.model;
  EXPECT_THAT(ticket.tensor(4), ElementsAre(0, 0, 0, 0));
  EXPECT_THAT(ticket.tensor(5), ElementsAre(1, 1, 1, 1));
  EXPECT_NE(ticket.tensor(2)[0], runs.at("dense").first.model.tensor(2)[0]);
}

TEST(ImpTest, ControlsCanBeLeftOut) {
  for (const auto& [controls, expected] :
       std::map<std::string, size_t>{{"none", 1}, {"reinit", 2}, {"random", 2}, {"both", 3}}) {
    v1::JobSpec spec = ImpJob(1);
    SetWord(spec, "controls", controls);
    const JobTrace trace = Trace(spec);
    EXPECT_EQ(trace.rounds.size(), 1 + 3 * expected) << controls;
    EXPECT_EQ(trace.transitions[trace.transitions.size() - 2].state.runs.size(), expected);
  }
}

TEST(ImpTest, WhatCannotBeDoneIsRefused) {
  EXPECT_EQ(RefusedField(ImpJob()), "");
  v1::JobSpec late = ImpJob();
  SetInt(late, "rewind_round", 4);
  EXPECT_EQ(RefusedField(late), "method.parameters.rewind_round");
  v1::JobSpec all = ImpJob();
  SetDouble(all, "rate", 1);
  EXPECT_EQ(RefusedField(all), "method.parameters.rate");
  v1::JobSpec dense = ImpJob();
  for (v1::Layer& layer : *dense.mutable_model()->mutable_layers()) {
    layer.mutable_linear()->set_dense(true);
  }
  EXPECT_EQ(RefusedField(dense), "model");
  v1::JobSpec many = ImpJob(500'000);
  EXPECT_EQ(RefusedField(many), "method.parameters.levels");
}

}  // namespace
}  // namespace espalier::server::methods
