#include "server/methods/growth/growing_program.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/drop.h"
#include "common/wire/model_spec/train_additions.h"
#include "server/methods/gradient_growth.h"
#include "server/methods/growth/exact_growth.h"

namespace espalier::server::methods {
namespace {

constexpr char kGrowth[] = "growth";

// ProgramMemory::notes of such a program.
struct Notes {
  std::vector<std::vector<int32_t>> marked;  // by tensor; empty: nothing is marked
  ExactGrowth exact;

  std::string Encode() const {
    std::string bytes;
    io::ByteWriter writer(bytes);
    writer.Put<uint64_t>(marked.size());
    for (const std::vector<int32_t>& indices : marked) writer.PutArray<int32_t>(indices);
    exact.Put(writer);
    return bytes;
  }

  static absl::StatusOr<Notes> Decode(std::string_view bytes) {
    Notes notes;
    io::ByteReader reader(bytes);
    const auto tensors = reader.Get<uint64_t>();
    for (uint64_t i = 0; i < tensors && reader.ok(); ++i) {
      notes.marked.push_back(reader.GetArray<int32_t>());
    }
    notes.exact = ExactGrowth::Get(reader);
    if (reader.ok() && reader.at_end()) return notes;
    return base::MakeError(absl::StatusCode::kDataLoss, "STATE_CORRUPT",
                           "the job's saved notes are damaged; start the job again");
  }

  static absl::StatusOr<Notes> Of(const ProgramState& state) {
    ESPALIER_ASSIGN_OR_RETURN(const ProgramMemory memory, ProgramMemory::Decode(state.memory));
    return Decode(memory.notes);
  }
};

bool NothingToDo(const std::vector<int64_t>& counts) {
  return std::ranges::all_of(counts, [](int64_t count) { return count == 0; });
}

}  // namespace

std::vector<std::pair<std::string, ModelNeed>> ExactGrowthNeeds(
    const config::Parameters& parameters) {
  if (parameters.Choice("top_k") != "exact") return {};
  return {{"top_k", ModelNeed::kExactGrowth}};
}

v1::Task GrowingProgram::MakeTask(const ProgramState& state) const {
  v1::Task task = TrainingProgram::MakeTask(state);
  if (growth_.exact) return task;
  const std::vector<int64_t> counts = UpdateCounts(state);
  AskForCandidates(*state.model.topology, counts, growth_.slack, growth_.batches,
                   *task.mutable_train());
  if (growth_.regrow && !NothingToDo(counts)) {
    wire::MutableAddition(*task.mutable_train(), v1::TrainAddition::kGrowth)
        .mutable_growth()
        ->set_active(true);
  }
  return task;
}

std::string GrowingProgram::NotesOf(const ProgramState& before) const {
  const std::vector<int64_t> counts = UpdateCounts(before);
  if (NothingToDo(counts) || (!growth_.exact && !growth_.marks)) return {};
  Notes notes;
  if (growth_.exact) notes.exact = ExactGrowth(counts);
  for (size_t i = 0; i < counts.size() && growth_.marks; ++i) {
    notes.marked.push_back(sparsity::DropSmallestMagnitude(before.model.tensor(i), counts[i]));
  }
  return notes.Encode();
}

absl::StatusOr<std::optional<Transition>> GrowingProgram::AskBeforePlanning(
    const ProgramState& state) const {
  if (!growth_.exact || NothingToDo(UpdateCounts(state))) return std::nullopt;
  ESPALIER_ASSIGN_OR_RETURN(const Notes notes, Notes::Of(state));
  Transition transition;
  transition.state = state;
  transition.state.phase = kGrowth;
  Step step;
  v1::GrowthTask& task = *step.task.mutable_growth();
  task = notes.exact.Task(state.model.topology->layout());
  task.set_batch_size(spec().training().batch_size());
  task.set_batches(static_cast<int32_t>(growth_.batches));
  step.participants = Participants::kCohort;
  step.reducer = reduce::ReducerKind::kMean;
  step.round = RoundInWork(state);
  transition.state.step = std::move(step);
  return transition;
}

absl::StatusOr<Transition> GrowingProgram::NextInPrelude(ProgramState state,
                                                         const reduce::Reduced& reduced) const {
  if (state.phase != kGrowth) return Done(state);
  ESPALIER_ASSIGN_OR_RETURN(ProgramMemory memory, ProgramMemory::Decode(state.memory));
  ESPALIER_ASSIGN_OR_RETURN(Notes notes, Notes::Decode(memory.notes));
  ESPALIER_RETURN_IF_ERROR(notes.exact.Take(reduced));
  memory.notes = notes.Encode();
  state.memory = memory.Encode();
  if (notes.exact.done()) return PlanAndProceed(std::move(state), reduced);
  ESPALIER_ASSIGN_OR_RETURN(std::optional<Transition> question, AskBeforePlanning(state));
  return *std::move(question);
}

absl::StatusOr<Evolution> GrowingProgram::PlanEvolution(const ProgramState& state,
                                                        const reduce::Reduced& trained) const {
  const std::vector<int64_t> counts = UpdateCounts(state);
  if (NothingToDo(counts)) return Evolution{};
  if (!growth_.exact && !growth_.marks) {
    const std::span<const float> gradients = trained.Section(v1::SECTION_KIND_GRADIENTS);
    return PlanGradientGrowth(state.model, counts, trained.scores, {}, gradients);
  }
  ESPALIER_ASSIGN_OR_RETURN(const Notes notes, Notes::Of(state));
  const std::vector<reduce::ScoreList> lists = growth_.exact ? notes.exact.lists() : trained.scores;
  return PlanGradientGrowth(state.model, counts, lists, notes.marked);
}

}  // namespace espalier::server::methods
