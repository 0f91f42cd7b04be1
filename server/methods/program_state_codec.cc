#include "server/methods/program_state_codec.h"

#include <fmt/core.h>

#include <utility>

#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/pruning/language_model.h"
#include "server/methods/state_bytes.h"

namespace espalier::server::methods {
namespace {

constexpr std::string_view kMagic = "ESPSTATE";
constexpr uint32_t kVersion = 8;
// More than any method has, few enough that a damaged number is noticed.
constexpr uint64_t kMaxRuns = 1024;

absl::Status Corrupt(std::string_view what) {
  return base::MakeError(
      absl::StatusCode::kDataLoss, "STATE_CORRUPT",
      fmt::format("the job's saved state is damaged ({}); start the job again", what));
}

void PutTopology(const tensor::ModelTopology& topology, StateWriter& writer) {
  writer.Put<uint64_t>(topology.num_tensors());
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    writer.Put<uint8_t>(topology.is_sparse(i) ? 1 : 0);
    if (!topology.is_sparse(i)) continue;
    writer.PutLong(topology.topology(i).row_offsets());
    writer.PutLong(topology.topology(i).columns());
  }
  writer.PutString(topology.hash());
}

absl::StatusOr<std::shared_ptr<const tensor::ModelTopology>> GetTopology(
    std::shared_ptr<const tensor::ModelLayout> layout, StateReader& reader) {
  if (reader.Get<uint64_t>() != layout->size()) return Corrupt("number of tensors");
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(layout->size());
  for (size_t i = 0; i < layout->size(); ++i) {
    if (reader.Get<uint8_t>() == 0) continue;
    auto row_offsets = reader.GetLong<int32_t>();
    auto columns = reader.GetLong<int32_t>();
    if (!reader.ok()) return Corrupt("cut off");
    auto topology = tensor::Topology::FromCsr((*layout)[i].rows, (*layout)[i].cols,
                                              std::move(row_offsets), std::move(columns));
    if (!topology.ok()) return Corrupt(base::MessageOf(topology.status()));
    topologies[i] = std::make_shared<const tensor::Topology>(*std::move(topology));
  }
  const std::string hash = reader.GetString();
  auto model = tensor::ModelTopology::Create(std::move(layout), std::move(topologies));
  if (!model.ok()) return Corrupt(base::MessageOf(model.status()));
  if (model->hash() != hash) return Corrupt("hash of the structure");
  return std::make_shared<const tensor::ModelTopology>(*std::move(model));
}

void PutStep(const Step& step, StateWriter& writer) {
  writer.PutString(step.task.SerializeAsString());
  writer.Put<uint8_t>(static_cast<uint8_t>(step.participants));
  writer.Put<uint8_t>(static_cast<uint8_t>(step.reducer));
  const reduce::Aggregation& aggregation = step.aggregation;
  writer.Put<uint8_t>(static_cast<uint8_t>(aggregation.rule));
  writer.Put<double>(aggregation.trim_fraction);
  writer.Put<int64_t>(aggregation.byzantine);
  writer.Put<int64_t>(aggregation.selected);
  writer.Put<double>(aggregation.clip_norm);
  writer.Put<uint8_t>(aggregation.keep_updates ? 1 : 0);
  writer.Put<int32_t>(step.round);
  writer.Put<uint8_t>(step.prelude ? 1 : 0);
}

// An enumerator of one byte, the last of which is `last`.
template <typename Enum>
bool GetEnum(StateReader& reader, Enum last, Enum& value) {
  const auto number = reader.Get<uint8_t>();
  value = static_cast<Enum>(number);
  return reader.ok() && number <= static_cast<uint8_t>(last);
}

bool GetStep(StateReader& reader, Step& step) {
  reduce::Aggregation& aggregation = step.aggregation;
  if (!step.task.ParseFromString(reader.GetString()) ||
      !GetEnum(reader, Participants::kPlanner, step.participants) ||
      !GetEnum(reader, reduce::ReducerKind::kStatistics, step.reducer) ||
      !GetEnum(reader, reduce::Rule::kMultiKrum, aggregation.rule)) {
    return false;
  }
  aggregation.trim_fraction = reader.Get<double>();
  aggregation.byzantine = reader.Get<int64_t>();
  aggregation.selected = reader.Get<int64_t>();
  aggregation.clip_norm = reader.Get<double>();
  aggregation.keep_updates = reader.Get<uint8_t>() != 0;
  step.round = reader.Get<int32_t>();
  step.prelude = reader.Get<uint8_t>() != 0;
  return reader.ok();
}

using NamedParts = std::vector<std::pair<std::string, pretrained::Part>>;

void PutParts(const NamedParts& parts, StateWriter& writer) {
  writer.Put<uint64_t>(parts.size());
  for (const auto& [name, part] : parts) {
    writer.PutString(name);
    writer.PutPart(part);
  }
}

NamedParts GetParts(StateReader& reader) {
  const auto count = reader.Get<uint64_t>();
  NamedParts named;
  for (uint64_t i = 0; i < count && reader.ok(); ++i) {
    std::string name = reader.GetString();
    named.emplace_back(std::move(name), reader.GetPart());
  }
  return named;
}

void PutLanguageModel(const LanguageModel& model, StateWriter& writer) {
  writer.PutString(model.config.json);
  writer.PutPart(model.outer);
  for (const pretrained::Part& block : model.blocks) writer.PutPart(block);
  PutParts(model.companions, writer);
  writer.PutArray<int64_t>(model.active);
  writer.Put<int64_t>(model.block_weights);
  writer.Put<int64_t>(model.outer_weights);
}

absl::StatusOr<std::shared_ptr<const LanguageModel>> GetLanguageModel(StateReader& reader) {
  auto model = std::make_shared<LanguageModel>();
  auto config = language::ParseTransformerConfig(reader.GetString());
  if (!config.ok()) return Corrupt(base::MessageOf(config.status()));
  model->config = *std::move(config);
  model->outer = reader.GetPart();
  for (int64_t b = 0; b < model->config.blocks && reader.ok(); ++b) {
    model->blocks.push_back(reader.GetPart());
  }
  model->companions = GetParts(reader);
  model->active = reader.GetArray<int64_t>();
  model->block_weights = reader.Get<int64_t>();
  model->outer_weights = reader.Get<int64_t>();
  if (!reader.ok() || model->active.size() != model->blocks.size()) {
    return Corrupt("weights of a language model");
  }
  return model;
}

void PutModel(const tensor::ModelState& model, StateWriter& writer) {
  writer.Put<uint8_t>(model.topology == nullptr ? 0 : 1);
  if (model.topology == nullptr) return;
  PutTopology(*model.topology, writer);
  writer.PutLong<float>(model.values);
  writer.PutLong<float>(model.optimizer_state);
}

absl::StatusOr<tensor::ModelState> GetModel(
    const std::shared_ptr<const tensor::ModelLayout>& layout, StateReader& reader) {
  tensor::ModelState model;
  if (reader.Get<uint8_t>() == 0) return model;
  ESPALIER_ASSIGN_OR_RETURN(model.topology, GetTopology(layout, reader));
  model.values = reader.GetLong<float>();
  model.optimizer_state = reader.GetLong<float>();
  const auto stored = static_cast<size_t>(model.topology->total_stored());
  if (!reader.ok() || model.values.size() != stored ||
      (!model.optimizer_state.empty() &&
       (stored == 0 || model.optimizer_state.size() % stored != 0))) {
    return Corrupt("number of values");
  }
  return model;
}

void PutState(const ProgramState& state, StateWriter& writer) {
  writer.Put<int32_t>(state.round);
  writer.Put<uint64_t>(state.topology_version);
  writer.Put<int64_t>(state.earlier_steps);
  writer.PutString(state.phase);
  writer.PutString(state.pending.SerializeAsString());
  writer.PutString(state.memory);
  writer.PutString(state.run);
  writer.Put<uint8_t>(state.model_spec ? 1 : 0);
  if (state.model_spec) writer.PutString(state.model_spec->SerializeAsString());
  PutModel(state.model, writer);
  if (state.model.topology != nullptr) PutServerState(state.server, writer);
  writer.Put<uint8_t>(state.kept ? 1 : 0);
  if (state.kept) PutModel(*state.kept, writer);
  writer.Put<uint8_t>(state.step ? 1 : 0);
  if (state.step) PutStep(*state.step, writer);
  writer.Put<uint8_t>(state.language ? 1 : 0);
  if (state.language) PutLanguageModel(*state.language, writer);
  writer.Put<uint8_t>(state.companions ? 1 : 0);
  if (state.companions) PutParts(state.companions->files, writer);
  writer.Put<uint64_t>(state.runs.size());
  for (const ProgramState& run : state.runs) PutState(run, writer);
}

// `layout`: that of the job's model.
absl::StatusOr<ProgramState> GetState(std::shared_ptr<const tensor::ModelLayout> layout,
                                      bool is_run, StateReader& reader) {
  ProgramState state;
  state.round = reader.Get<int32_t>();
  state.topology_version = reader.Get<uint64_t>();
  state.earlier_steps = reader.Get<int64_t>();
  if (state.earlier_steps < 0) return Corrupt("steps of an earlier job");
  state.phase = reader.GetString();
  const std::string pending = reader.GetString();
  state.memory = reader.GetString();
  state.run = reader.GetString();
  if (!reader.ok() || !state.pending.ParseFromString(pending)) return Corrupt("summary");
  if (reader.Get<uint8_t>() != 0) {
    auto spec = std::make_shared<v1::ModelSpec>();
    if (!spec->ParseFromString(reader.GetString())) return Corrupt("what the model is");
    auto own = wire::LayoutOf(*spec);
    if (!own.ok()) return Corrupt(base::MessageOf(own.status()));
    layout = *std::move(own);
    state.model_spec = std::move(spec);
  }
  ESPALIER_ASSIGN_OR_RETURN(state.model, GetModel(layout, reader));
  if (state.model.topology != nullptr) {
    const auto server = GetServerState(reader, state.model.values.size());
    if (server == nullptr) return Corrupt("state of the server's optimizer");
    state.server = *server;
  }
  if (reader.Get<uint8_t>() != 0) {
    ESPALIER_ASSIGN_OR_RETURN(tensor::ModelState kept, GetModel(layout, reader));
    if (kept.topology == nullptr) return Corrupt("the model that is kept");
    state.kept = std::make_shared<const tensor::ModelState>(std::move(kept));
  }
  if (reader.Get<uint8_t>() != 0 && !GetStep(reader, state.step.emplace())) {
    return Corrupt("the step in work");
  }
  if (reader.Get<uint8_t>() != 0) {
    ESPALIER_ASSIGN_OR_RETURN(state.language, GetLanguageModel(reader));
  }
  if (reader.Get<uint8_t>() != 0) {
    state.companions =
        std::make_shared<const pretrained::Companions>(pretrained::Companions{GetParts(reader)});
  }
  const auto runs = reader.Get<uint64_t>();
  if (!reader.ok() || runs > (is_run ? 0 : kMaxRuns)) return Corrupt("number of runs");
  for (uint64_t i = 0; i < runs; ++i) {
    ESPALIER_ASSIGN_OR_RETURN(ProgramState run, GetState(layout, /*is_run=*/true, reader));
    state.runs.push_back(std::move(run));
  }
  for (const ProgramState* in_work : StepsInWork(state)) {
    if (in_work->model.topology == nullptr) return Corrupt("a step without a model");
  }
  return state;
}

}  // namespace

absl::StatusOr<SavedState> SaveProgramState(const ProgramState& state,
                                            pretrained::PartStore* parts) {
  SavedState saved;
  saved.bytes = kMagic;
  StateWriter writer(saved.bytes, parts);
  writer.Put<uint32_t>(kVersion);
  PutState(state, writer);
  ESPALIER_RETURN_IF_ERROR(writer.status());
  saved.parts = writer.TakeParts();
  return saved;
}

std::string EncodeProgramState(const ProgramState& state) {
  return SaveProgramState(state, nullptr)->bytes;
}

absl::StatusOr<ProgramState> DecodeProgramState(std::string_view bytes,
                                                std::shared_ptr<const tensor::ModelLayout> layout,
                                                const pretrained::PartStore* parts,
                                                std::vector<pretrained::Part>* used) {
  if (!bytes.starts_with(kMagic)) return Corrupt("not a saved state");
  StateReader reader(bytes.substr(kMagic.size()), parts);
  if (const auto version = reader.Get<uint32_t>(); version != kVersion) {
    return base::FailedPrecondition(
        "STATE_VERSION",
        fmt::format("expected a saved state of version {}, found {}; use the program "
                    "version that wrote it",
                    kVersion, version));
  }
  absl::StatusOr<ProgramState> state = GetState(std::move(layout), /*is_run=*/false, reader);
  // That a part is missing says more than what follows from it.
  ESPALIER_RETURN_IF_ERROR(reader.status());
  if (!state.ok()) return state;
  if (!reader.ok() || !reader.at_end()) return Corrupt("cut off");
  if (used != nullptr) *used = reader.TakeParts();
  return state;
}

}  // namespace espalier::server::methods
