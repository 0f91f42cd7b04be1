#include "server/methods/program_state_codec.h"

#include <fmt/core.h>

#include "common/base/status.h"
#include "server/methods/byte_codec.h"

namespace espalier::server::methods {
namespace {

constexpr std::string_view kMagic = "ESPSTATE";
constexpr uint32_t kVersion = 4;

absl::Status Corrupt(std::string_view what) {
  return base::MakeError(
      absl::StatusCode::kDataLoss, "STATE_CORRUPT",
      fmt::format("the job's saved state is damaged ({}); start the job again", what));
}

void PutTopology(const tensor::ModelTopology& topology, ByteWriter& writer) {
  writer.Put<uint64_t>(topology.num_tensors());
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    writer.Put<uint8_t>(topology.is_sparse(i) ? 1 : 0);
    if (!topology.is_sparse(i)) continue;
    writer.PutArray(topology.topology(i).row_offsets());
    writer.PutArray(topology.topology(i).columns());
  }
  writer.PutString(topology.hash());
}

absl::StatusOr<std::shared_ptr<const tensor::ModelTopology>> GetTopology(
    std::shared_ptr<const tensor::ModelLayout> layout, ByteReader& reader) {
  if (reader.Get<uint64_t>() != layout->size()) return Corrupt("number of tensors");
  std::vector<std::shared_ptr<const tensor::Topology>> topologies(layout->size());
  for (size_t i = 0; i < layout->size(); ++i) {
    if (reader.Get<uint8_t>() == 0) continue;
    auto row_offsets = reader.GetArray<int32_t>();
    auto columns = reader.GetArray<int32_t>();
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

}  // namespace

std::string EncodeProgramState(const ProgramState& state) {
  std::string bytes(kMagic);
  ByteWriter writer(bytes);
  writer.Put<uint32_t>(kVersion);
  writer.Put<int32_t>(state.round);
  writer.Put<uint64_t>(state.topology_version);
  writer.PutString(state.phase);
  writer.PutString(state.pending.SerializeAsString());
  writer.PutString(state.memory);
  PutTopology(*state.model.topology, writer);
  writer.PutArray<float>(state.model.values);
  writer.PutArray<float>(state.model.optimizer_state);
  PutServerState(state.server, writer);
  return bytes;
}

absl::StatusOr<ProgramState> DecodeProgramState(std::string_view bytes,
                                                std::shared_ptr<const tensor::ModelLayout> layout) {
  if (!bytes.starts_with(kMagic)) return Corrupt("not a saved state");
  ByteReader reader(bytes.substr(kMagic.size()));
  if (const auto version = reader.Get<uint32_t>(); version != kVersion) {
    return base::FailedPrecondition(
        "STATE_VERSION",
        fmt::format("expected a saved state of version {}, found {}; use the program "
                    "version that wrote it",
                    kVersion, version));
  }
  ProgramState state;
  state.round = reader.Get<int32_t>();
  state.topology_version = reader.Get<uint64_t>();
  state.phase = reader.GetString();
  const std::string pending = reader.GetString();
  state.memory = reader.GetString();
  if (!reader.ok() || !state.pending.ParseFromString(pending)) return Corrupt("summary");
  ESPALIER_ASSIGN_OR_RETURN(state.model.topology, GetTopology(std::move(layout), reader));
  state.model.values = reader.GetArray<float>();
  state.model.optimizer_state = reader.GetArray<float>();
  const auto stored = static_cast<size_t>(state.model.topology->total_stored());
  const auto server = GetServerState(reader, stored);
  if (server == nullptr) return Corrupt("state of the server's optimizer");
  state.server = *server;
  if (!reader.ok() || !reader.at_end() || state.model.values.size() != stored ||
      (!state.model.optimizer_state.empty() &&
       (stored == 0 || state.model.optimizer_state.size() % stored != 0))) {
    return Corrupt("number of values");
  }
  return state;
}

}  // namespace espalier::server::methods
