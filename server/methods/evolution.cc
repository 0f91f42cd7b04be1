#include "server/methods/evolution.h"

#include <fmt/core.h>

#include "common/base/status.h"
#include "common/sparsity/grow.h"

namespace espalier::server::methods {
namespace {

// A weight that is dropped and grown again at once is a new one: its optimizer state starts at 0.
void ForgetState(const StructureChange::Tensor& change, tensor::ModelState& model) {
  const tensor::ModelTopology& topology = *model.topology;
  const std::vector<float> zeros(change.diff.grown.size(), 0.0F);
  const auto state = std::span(model.optimizer_state);
  for (int64_t set = 0; set < static_cast<int64_t>(state.size()); set += topology.total_stored()) {
    WriteAt(topology.topology(change.tensor), change.diff.grown, zeros,
            state.subspan(set + topology.offset(change.tensor), topology.stored(change.tensor)));
  }
}

absl::StatusOr<tensor::ModelTopology> Apply(const tensor::ModelTopology& old,
                                            const Evolution& evolution) {
  std::vector<std::shared_ptr<const tensor::Topology>> topologies;
  topologies.reserve(old.num_tensors());
  for (size_t i = 0; i < old.num_tensors(); ++i) topologies.push_back(old.shared_topology(i));
  for (const StructureChange::Tensor& change : evolution) {
    if (change.tensor >= topologies.size() || !old.layout()[change.tensor].sparsifiable) {
      return base::InvalidArgument(
          "SHAPE_MISMATCH",
          fmt::format("tensor {} is not a sparsifiable tensor of this model", change.tensor));
    }
    ESPALIER_ASSIGN_OR_RETURN(const auto structure, old.Structure(change.tensor));
    ESPALIER_ASSIGN_OR_RETURN(tensor::Topology updated, tensor::Apply(*structure, change.diff));
    topologies[change.tensor] = std::make_shared<const tensor::Topology>(std::move(updated));
  }
  return tensor::ModelTopology::Create(old.shared_layout(), std::move(topologies));
}

}  // namespace

void WriteAt(const tensor::Topology& topology, std::span<const int64_t> positions,
             std::span<const float> values, std::span<float> stored) {
  const auto offsets = topology.row_offsets();
  const auto columns = topology.columns();
  int64_t entry = 0;
  for (size_t i = 0; i < positions.size(); ++i) {
    const int64_t row = positions[i] / topology.cols();
    const int64_t column = positions[i] % topology.cols();
    entry = std::max<int64_t>(entry, offsets[row]);
    while (columns[entry] != column) ++entry;
    stored[entry] = values[i];
  }
}

int64_t DroppedWeights(const Evolution& evolution) {
  int64_t dropped = 0;
  for (const StructureChange::Tensor& change : evolution) {
    dropped += static_cast<int64_t>(change.diff.dropped.size());
  }
  return dropped;
}

void GrowAtRandom(const tensor::ModelTopology& topology, uint64_t key,
                  StructureChange::Tensor& change) {
  change.growth_key = key;
  change.diff.grown = sparsity::GrowRandom(topology.topology(change.tensor), change.diff.dropped,
                                           static_cast<int64_t>(change.diff.dropped.size()), key);
}

absl::StatusOr<tensor::ModelState> Evolve(const tensor::ModelState& model,
                                          const Evolution& evolution,
                                          const GrownValues& grown_values) {
  ESPALIER_ASSIGN_OR_RETURN(tensor::ModelTopology updated, Apply(*model.topology, evolution));
  tensor::ModelState evolved =
      tensor::Relayout(model, std::make_shared<const tensor::ModelTopology>(std::move(updated)));
  for (const StructureChange::Tensor& change : evolution) {
    WriteAt(evolved.topology->topology(change.tensor), change.diff.grown, grown_values(change),
            evolved.tensor(change.tensor));
    ForgetState(change, evolved);
  }
  return evolved;
}

Evolution DifferenceOf(const tensor::ModelTopology& base, const tensor::ModelTopology& updated) {
  Evolution evolution;
  for (size_t i = 0; i < base.num_tensors(); ++i) {
    if (!base.is_sparse(i)) continue;
    StructureChange::Tensor change;
    change.tensor = i;
    const std::vector<int64_t> positions = updated.topology(i).Positions();
    int32_t next = 0;  // of the base's weights
    const std::vector<int32_t> source =
        tensor::SourceIndices(base.topology(i), updated.topology(i));
    for (size_t k = 0; k < source.size(); ++k) {
      if (source[k] < 0) {
        change.diff.grown.push_back(positions[k]);
        continue;
      }
      for (; next < source[k]; ++next) change.diff.dropped.push_back(next);
      ++next;
    }
    for (; next < base.topology(i).nnz(); ++next) change.diff.dropped.push_back(next);
    if (!change.diff.grown.empty() || !change.diff.dropped.empty()) {
      evolution.push_back(std::move(change));
    }
  }
  return evolution;
}

void PutEvolution(const Evolution& evolution, io::ByteWriter& writer) {
  writer.Put<uint64_t>(evolution.size());
  for (const StructureChange::Tensor& change : evolution) {
    writer.Put<uint64_t>(change.tensor);
    writer.Put<uint8_t>(change.growth_key.has_value() ? 1 : 0);
    writer.Put<uint64_t>(change.growth_key.value_or(0));
    writer.PutArray<int32_t>(change.diff.dropped);
    writer.PutArray<int64_t>(change.diff.grown);
  }
}

Evolution GetEvolution(io::ByteReader& reader) {
  Evolution evolution;
  const auto count = reader.Get<uint64_t>();
  for (uint64_t i = 0; i < count && reader.ok(); ++i) {
    StructureChange::Tensor change;
    change.tensor = reader.Get<uint64_t>();
    const bool has_key = reader.Get<uint8_t>() != 0;
    const auto key = reader.Get<uint64_t>();
    if (has_key) change.growth_key = key;
    change.diff.dropped = reader.GetArray<int32_t>();
    change.diff.grown = reader.GetArray<int64_t>();
    evolution.push_back(std::move(change));
  }
  return evolution;
}

}  // namespace espalier::server::methods
