#include "tests/support/fake_fleet.h"

#include <algorithm>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/complement.h"
#include "common/sparsity/top_k.h"
#include "common/wire/model_spec/model_spec.h"

namespace espalier::test {
namespace {

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
                      const tensor::ModelState& model, Partial& partial) const {
  const tensor::ModelTopology& topology = *model.topology;
  // Optimizer state is 1 at every weight, so that what is carried over can be told from zero.
  std::vector<float> values(model.values.size() * sets, 1.0F);
  std::ranges::copy(model.values, values.begin());
  const auto rate = static_cast<float>(task.learning_rate());
  for (size_t t = 0; t < topology.num_tensors(); ++t) {
    const std::vector<int64_t> positions = PositionsOf(topology, t);
    for (size_t i = 0; i < positions.size(); ++i) {
      float& value = values[topology.offset(t) + static_cast<int64_t>(i)];
      const float gradient = value - Target(participant, t, positions[i]);
      partial.loss_sum += 0.5 * gradient * gradient;
      value -= rate * gradient;
      // Where asked for, the gradients are the last set.
      if (!task.active_gradients()) continue;
      const int64_t last = static_cast<int64_t>(model.values.size()) * (sets - 1);
      values[last + topology.offset(t) + static_cast<int64_t>(i)] =
          value - Target(participant, t, positions[i]);
    }
    if (task.growth_candidates_size() == 0) continue;
    sparsity::TopK best(task.growth_candidates(static_cast<int>(t)));
    for (const int64_t position : sparsity::Complement(positions, topology.layout()[t].size())) {
      best.Offer(position, -Target(participant, t, position));
    }
    sparsity::ScoredPositions scored = best.TakeSorted();
    partial.scores.push_back({std::move(scored.positions), std::move(scored.values)});
  }
  SetValues(std::move(values), partial);
}

Partial FakeFleet::Execute(uint64_t participant, const Step& step,
                           const tensor::ModelState& model) const {
  Partial partial;
  partial.participant = std::to_string(participant);
  partial.examples = static_cast<int64_t>(10 * (participant + 1));
  partial.correct = partial.examples / 2;
  partial.peak_memory_bytes = static_cast<int64_t>(1000 + participant);
  if (step.task.has_train()) {
    Train(participant, step.task.train(), wire::ValuesPerWeight(step.task), model, partial);
  } else if (step.task.has_echo()) {
    SetValues(model.values, partial);
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

absl::StatusOr<Reduced> FakeFleet::Run(const Step& step, const tensor::ModelState& model) const {
  auto reducer = server::reduce::MakeReducer(step.reducer, model.topology,
                                             wire::ResultValues(step.task, *model.topology));
  const int count = step.participants == Participants::kAnyOne ? 1 : participants_;
  for (int k = 0; k < count; ++k) {
    ESPALIER_RETURN_IF_ERROR(reducer->Merge(Execute(static_cast<uint64_t>(k), step, model)));
  }
  return reducer->Finish();
}

absl::StatusOr<JobTrace> RunJob(const server::methods::Program& program, const FakeFleet& fleet,
                                const std::function<ProgramState(ProgramState)>& between) {
  JobTrace trace;
  ESPALIER_ASSIGN_OR_RETURN(Transition transition, program.Start());
  for (;;) {
    if (transition.committed) trace.rounds.push_back(*transition.committed);
    trace.transitions.push_back(transition);
    if (!transition.step) break;
    ProgramState state = std::move(transition.state);
    if (between) state = between(std::move(state));
    ESPALIER_ASSIGN_OR_RETURN(Reduced reduced, fleet.Run(*transition.step, state.model));
    ESPALIER_ASSIGN_OR_RETURN(transition, program.Next(std::move(state), std::move(reduced)));
  }
  trace.final_state = trace.transitions.back().state;
  return trace;
}

}  // namespace espalier::test
