#include "server/methods/program_memory.h"

#include "common/base/status.h"
#include "common/sparsity/explored.h"

namespace espalier::server::methods {
namespace {

constexpr uint32_t kVersion = 2;

double Density(const tensor::ModelTopology& topology) {
  const int64_t size = topology.sparsifiable_size();
  return size == 0 ? 0.0 : static_cast<double>(topology.sparsifiable_stored()) / size;
}

}  // namespace

std::string ProgramMemory::Encode() const {
  std::string bytes;
  io::ByteWriter writer(bytes);
  writer.Put<uint32_t>(kVersion);
  writer.Put<double>(explored);
  writer.PutString(explored_bits);
  PutEvolution(planned, writer);
  writer.PutString(own);
  writer.PutString(notes);
  return bytes;
}

absl::StatusOr<ProgramMemory> ProgramMemory::Decode(std::string_view bytes) {
  io::ByteReader reader(bytes);
  ProgramMemory memory;
  const auto version = reader.Get<uint32_t>();
  memory.explored = reader.Get<double>();
  memory.explored_bits = reader.GetString();
  memory.planned = GetEvolution(reader);
  memory.own = reader.GetString();
  memory.notes = reader.GetString();
  if (!reader.ok() || !reader.at_end() || version != kVersion) {
    return base::MakeError(absl::StatusCode::kDataLoss, "STATE_CORRUPT",
                           "the job's saved memory is damaged or of another version; start the job "
                           "again");
  }
  return memory;
}

absl::StatusOr<ProgramMemory> ProgramMemory::Begin(const tensor::ModelTopology& topology,
                                                   bool evolves) {
  ProgramMemory memory;
  memory.explored = Density(topology);
  if (!evolves) return memory;
  auto explored = sparsity::Explored::Create(topology.shared_layout());
  if (absl::IsResourceExhausted(explored.status())) {
    memory.explored = 0;
    return memory;
  }
  if (!explored.ok()) return explored.status();
  explored->Mark(topology);
  memory.explored = explored->Fraction();
  memory.explored_bits = explored->Save();
  return memory;
}

absl::Status ProgramMemory::Explore(const tensor::ModelTopology& topology) {
  if (explored_bits.empty()) return absl::OkStatus();
  ESPALIER_ASSIGN_OR_RETURN(auto bits, sparsity::Explored::Create(topology.shared_layout()));
  ESPALIER_RETURN_IF_ERROR(bits.Load(explored_bits));
  bits.Mark(topology);
  explored = bits.Fraction();
  explored_bits = bits.Save();
  return absl::OkStatus();
}

}  // namespace espalier::server::methods
