#include "tests/support/fake_fleet.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/complement.h"
#include "common/sparsity/drop.h"
#include "common/sparsity/top_k.h"
#include "common/wire/index_set.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/result_sections.h"
#include "common/wire/model_spec/train_additions.h"
#include "server/methods/aggregation/control_variates.h"
#include "server/methods/evolution.h"
#include "tests/support/forgetful_program.h"

namespace espalier::test {
namespace {

using server::methods::Outcome;
using server::methods::Participants;
using server::methods::ProgramState;
using server::methods::Step;
using server::methods::Transition;
using server::reduce::Partial;
using server::reduce::Reduced;

std::vector<int64_t> PositionsOf(const tensor::ModelTopology& topology, size_t tensor) {
  if (topology.is_sparse(tensor)) return topology.topology(tensor).Positions();
  std::vector<int64_t> all(topology.stored(tensor));
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<int64_t>(i);
  return all;
}

void SetValues(std::vector<float> values, Partial& partial) {
  partial.values_count = static_cast<int64_t>(values.size());
  partial.values = [values = std::move(values)](const auto& sink) {
    return sink(std::span<const float>(values));
  };
}

}  // namespace

float FakeFleet::Target(uint64_t participant, size_t tensor, int64_t position) const {
  base::Rng rng(
      base::StreamKey(seed_, "target", {participant, tensor, static_cast<uint64_t>(position)}));
  return static_cast<float>(rng.Uniform() - 0.5);
}

void FakeFleet::Train(uint64_t participant, const v1::TrainTask& task, int sets,
                      const tensor::ModelState& model, std::span<const float> correction,
                      Partial& partial) const {
  const tensor::ModelTopology& topology = *model.topology;
  // Optimizer state is 1 at every weight, so that what is carried over can be told from zero.
  const auto weights = static_cast<int64_t>(model.values.size()) * sets;
  const bool importance = wire::HasAddition(task, v1::TrainAddition::kImportance);
  const v1::GrowthReport& report = wire::AdditionOf(task, v1::TrainAddition::kGrowth).growth();
  std::vector<float> values(weights + (importance ? topology.total_size() : 0), 1.0F);
  std::ranges::copy(model.values, values.begin());
  const auto rate = static_cast<float>(task.learning_rate());
  int64_t first = weights;  // importance follows
  for (size_t t = 0; t < topology.num_tensors(); ++t) {
    const int64_t size = topology.layout()[t].size();
    for (int64_t p = 0; importance && p < size; ++p) {
      values[first++] = static_cast<float>(std::pow(Target(participant, t, p), 2));
    }
    const std::vector<int64_t> positions = PositionsOf(topology, t);
    const bool learned = !topology.layout()[t].buffer;  // statistics stay as they are
    for (size_t i = 0; learned && i < positions.size(); ++i) {
      const size_t at = topology.offset(t) + i;
      float& value = values[at];
      const float gradient = value - Target(participant, t, positions[i]);
      partial.loss_sum += 0.5 * gradient * gradient;
      value -= rate * (gradient + (correction.empty() ? 0.0F : correction[at]));
      // Where asked for, the gradients are the last set.
      if (!report.active()) continue;
      const int64_t last = static_cast<int64_t>(model.values.size()) * (sets - 1);
      values[last + static_cast<int64_t>(at)] = value - Target(participant, t, positions[i]);
    }
    if (report.counts().empty()) continue;
    sparsity::TopK best(report.counts(static_cast<int>(t)));
    for (const int64_t position : sparsity::Complement(positions, topology.layout()[t].size())) {
      best.Offer(position, -Target(participant, t, position));
    }
    sparsity::ScoredPositions scored = best.TakeSorted();
    partial.scores.push_back({std::move(scored.positions), std::move(scored.values)});
  }
  const v1::TrainAddition& change = wire::AdditionOf(task, v1::TrainAddition::kReadjustment);
  if (change.has_readjustment()) {
    Readjust(participant, rate, change.readjustment(), model, values, partial);
  }
  SetValues(std::move(values), partial);
}

void FakeFleet::Readjust(uint64_t participant, float rate, const v1::Readjustment& asked,
                         const tensor::ModelState& model, std::vector<float>& values,
                         Partial& partial) const {
  const tensor::ModelState trained = {model.topology, values};
  server::methods::Evolution evolution;
  for (size_t t = 0; t < model.topology->num_tensors(); ++t) {
    const int64_t count = asked.counts(static_cast<int>(t));
    if (count == 0) continue;
    const std::vector<int64_t> positions = PositionsOf(*model.topology, t);
    sparsity::TopK best(count);
    for (const int64_t position :
         sparsity::Complement(positions, model.topology->layout()[t].size())) {
      best.Offer(position, Target(participant, t, position));
    }
    evolution.emplace_back();
    evolution.back().tensor = t;
    evolution.back().diff.dropped = sparsity::DropSmallestMagnitude(trained.tensor(t), count);
    evolution.back().diff.grown = best.TakeSorted().positions;
  }
  // Grown weights have been trained for a step.
  const tensor::ModelState changed =
      server::methods::Evolve(trained, evolution, [&](const auto& change) {
        std::vector<float> grown;
        for (const int64_t position : change.diff.grown) {
          grown.push_back(rate * Target(participant, change.tensor, position));
        }
        return grown;
      }).value();
  partial.topology = changed.topology;
  values = changed.values;
}

void FakeFleet::Grow(uint64_t participant, const v1::GrowthTask& task,
                     const tensor::ModelState& model, Partial& partial) const {
  for (size_t t = 0; t < model.topology->num_tensors(); ++t) {
    const int index = static_cast<int>(t);
    partial.scores.emplace_back();
    if (!model.topology->is_sparse(t)) continue;
    const int64_t size = model.topology->layout()[t].size();
    std::vector<int64_t> asked;
    if (index < task.positions_size()) {
      asked = wire::DecodeIndexSet(task.positions(index), size, size).value();
    }
    const double threshold = index < task.thresholds_size() && task.thresholds(index) > 0
                                 ? task.thresholds(index) / static_cast<double>(partial.examples)
                                 : std::numeric_limits<double>::infinity();
    sparsity::TopK best(index < task.counts_size() ? task.counts(index) : 0);
    std::map<int64_t, float> reported;
    for (const int64_t position : sparsity::Complement(PositionsOf(*model.topology, t), size)) {
      const float gradient = -Target(participant, t, position);
      best.Offer(position, gradient);
      if (std::abs(static_cast<double>(gradient)) >= threshold ||
          std::ranges::binary_search(asked, position)) {
        reported[position] = gradient;
      }
    }
    const sparsity::ScoredPositions top = best.TakeSorted();
    for (size_t i = 0; i < top.positions.size(); ++i) reported[top.positions[i]] = top.values[i];
    for (const auto& [position, gradient] : reported) {
      partial.scores[t].positions.push_back(position);
      partial.scores[t].values.push_back(gradient);
    }
  }
}

std::vector<float> FakeFleet::Saliencies(uint64_t participant,
                                         const tensor::ModelState& model) const {
  const tensor::ModelTopology& topology = *model.topology;
  std::vector<float> all;
  for (size_t t = 0; t < topology.num_tensors(); ++t) {
    if (!topology.layout()[t].sparsifiable) continue;
    const auto first = static_cast<int64_t>(all.size());
    all.resize(first + topology.layout()[t].size());
    const std::vector<int64_t> positions = PositionsOf(topology, t);
    for (size_t i = 0; i < positions.size(); ++i) {
      const float value = model.tensor(t)[i];
      all[first + positions[i]] = value * (value - Target(participant, t, positions[i]));
    }
  }
  return all;
}

Partial FakeFleet::Execute(uint64_t participant, const Step& step, const tensor::ModelState& model,
                           const server::methods::ServerState& server) const {
  Partial partial;
  partial.participant = std::to_string(participant);
  partial.examples = static_cast<int64_t>(10 * (participant + 1));
  partial.correct = partial.examples / 2;
  partial.peak_memory_bytes = static_cast<int64_t>(1000 + participant);
  if (step.task.has_train()) {
    partial.steps = std::max(1, step.task.train().training().local_steps());
    std::vector<float> correction;
    if (step.task.train().training().control_variates()) {
      correction = server::methods::Correction(server, partial.participant);
    }
    Train(participant, step.task.train(), wire::ValuesPerWeight(step.task), model, correction,
          partial);
  } else if (step.task.has_growth()) {
    Grow(participant, step.task.growth(), model, partial);
  } else if (step.task.has_echo()) {
    SetValues(model.values, partial);
  } else if (step.task.has_score()) {
    SetValues(Saliencies(participant, model), partial);
  } else if (step.task.has_calibrate()) {
    // Statistics that tell the participants apart.
    SetValues(std::vector<float>(wire::BufferValues(*model.topology),
                                 static_cast<float>(1 + participant)),
              partial);
  } else {
    partial.loss_sum = 0.25 * static_cast<double>(partial.examples);
    for (const int32_t k : step.task.evaluate().top_k()) {
      for (const char* name : {"ndcg@", "recall@"}) {
        partial.metric_sums[name + std::to_string(k)] = partial.loss_sum;
      }
    }
  }
  return partial;
}

absl::StatusOr<Reduced> FakeFleet::Run(const Step& step, const tensor::ModelState& model,
                                       const server::methods::ServerState& server) const {
  auto reducer = server::reduce::MakeReducer(step.reducer, model.topology,
                                             wire::ResultLayoutOf(step.task, *model.topology),
                                             step.aggregation, model.values);
  const int count = step.participants == Participants::kAnyOne ? 1 : participants_;
  for (int k = 0; k < count; ++k) {
    ESPALIER_RETURN_IF_ERROR(
        reducer->Merge(Execute(static_cast<uint64_t>(k), step, model, server)));
  }
  return reducer->Finish();
}

absl::StatusOr<JobTrace> RunJob(const server::methods::Program& program, const FakeFleet& fleet) {
  JobTrace trace;
  ESPALIER_ASSIGN_OR_RETURN(Transition transition, program.Start());
  for (;;) {
    for (const Outcome* outcome : OutcomesOf(transition)) {
      if (outcome->committed) trace.rounds.push_back(*outcome->committed);
    }
    trace.transitions.push_back(transition);
    if (StepsInWork(transition.state).empty()) break;
    ProgramState state = std::move(transition.state);
    std::vector<Reduced> results;
    for (const ProgramState* run : StepsInWork(state)) {
      ESPALIER_ASSIGN_OR_RETURN(Reduced reduced, fleet.Run(*run->step, run->model, run->server));
      results.push_back(std::move(reduced));
    }
    ESPALIER_ASSIGN_OR_RETURN(transition, NextOf(program, std::move(state), std::move(results)));
  }
  trace.final_state = trace.transitions.back().state;
  return trace;
}

absl::StatusOr<JobTrace> RunJobFromSavedStates(
    const std::function<std::unique_ptr<server::methods::Program>()>& make,
    const FakeFleet& fleet) {
  return RunJob(ForgetfulProgram(make), fleet);
}

}  // namespace espalier::test
