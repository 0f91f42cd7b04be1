#include "common/tensor/model.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/io/sha256.h"

namespace espalier::tensor {
namespace {

// Counts stay exact in double and far from overflow when summed.
constexpr int64_t kMaxPositions = int64_t{1} << 53;

constexpr std::string_view kHashVersion = "espalier.topology.v1";

// Hashes integers as little-endian bytes, so that the digest is the same on every machine.
class StructureHasher {
 public:
  void Add64(uint64_t value) { AddAll<uint64_t>(std::span(&value, 1)); }

  void AddText(std::string_view text) {
    Add64(text.size());
    sha_.Update(text.data(), text.size());
  }

  template <typename T>
  void AddAll(std::span<const T> values) {
    std::array<unsigned char, 4096> block;
    size_t used = 0;
    for (const T value : values) {
      for (size_t byte = 0; byte < sizeof(T); ++byte) {
        block[used++] = static_cast<unsigned char>(static_cast<uint64_t>(value) >> (8 * byte));
      }
      if (used == block.size()) {
        sha_.Update(block.data(), used);
        used = 0;
      }
    }
    sha_.Update(block.data(), used);
  }

  std::string HexDigest() { return sha_.HexDigest(); }

 private:
  io::Sha256 sha_;
};

// version, number of tensors, then for each: name, dimensions, 0 (dense) or 1, nnz, row offsets and
// columns. Texts follow their length; lengths and dimensions take 8 bytes, indices 4.
std::string HashOf(const ModelLayout& layout,
                   std::span<const std::shared_ptr<const Topology>> topologies) {
  StructureHasher hasher;
  hasher.AddText(kHashVersion);
  hasher.Add64(layout.size());
  for (size_t i = 0; i < layout.size(); ++i) {
    hasher.AddText(layout[i].name);
    hasher.Add64(layout[i].shape.size());
    hasher.AddAll<int64_t>(layout[i].shape);
    const Topology* topology = topologies[i].get();
    hasher.Add64(topology == nullptr ? 0 : 1);
    if (topology == nullptr) continue;
    hasher.Add64(topology->nnz());
    hasher.AddAll<int32_t>(topology->row_offsets());
    hasher.AddAll<int32_t>(topology->columns());
  }
  return hasher.HexDigest();
}

absl::Status CheckSpec(const TensorSpec& spec) {
  const auto bad = [&spec](std::string_view found) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("tensor {}: expected a shape of positive dimensions whose first is `rows` and "
                    "the product of whose others is `cols`, found {}",
                    spec.name, found));
  };
  if (spec.shape.empty()) return bad("no dimensions");
  int64_t product = 1;
  for (const int64_t dimension : spec.shape) {
    if (dimension < 1) return bad(fmt::format("dimension {}", dimension));
    if (dimension > kMaxPositions / product) {
      return bad(fmt::format("more than {} positions", kMaxPositions));
    }
    product *= dimension;
  }
  if (spec.rows != spec.shape[0] || spec.cols != product / spec.shape[0]) {
    return bad(fmt::format("{} x {} for dimensions {}", spec.rows, spec.cols,
                           fmt::join(spec.shape, " x ")));
  }
  return absl::OkStatus();
}

absl::Status CheckTopology(const TensorSpec& spec, const Topology& topology) {
  if (!spec.sparsifiable) {
    return base::InvalidArgument(
        "NOT_SPARSIFIABLE",
        fmt::format("tensor {} is exempt from pruning and must be dense, found a topology",
                    spec.name));
  }
  if (topology.rows() == spec.rows && topology.cols() == spec.cols) return absl::OkStatus();
  return base::InvalidArgument(
      "SHAPE_MISMATCH",
      fmt::format("tensor {}: expected a topology of {} x {}, found {} x {}", spec.name, spec.rows,
                  spec.cols, topology.rows(), topology.cols()));
}

int64_t SumOf(const ModelLayout& layout, bool sparsifiable_only) {
  int64_t sum = 0;
  for (const TensorSpec& spec : layout) {
    if (spec.sparsifiable || !sparsifiable_only) sum += spec.size();
  }
  return sum;
}

// Moves the values of one tensor from `before` to `after`, which is zero on entry. A null topology
// means dense.
void RelayoutTensor(const Topology* from, std::span<const float> before, const Topology* to,
                    std::span<float> after) {
  if (from == to || (from != nullptr && to != nullptr && *from == *to)) {
    std::copy(before.begin(), before.end(), after.begin());
  } else if (from == nullptr) {
    const std::vector<int64_t> positions = to->Positions();
    for (size_t i = 0; i < positions.size(); ++i) after[i] = before[positions[i]];
  } else if (to == nullptr) {
    const std::vector<int64_t> positions = from->Positions();
    for (size_t i = 0; i < positions.size(); ++i) after[positions[i]] = before[i];
  } else {
    const std::vector<int32_t> source = SourceIndices(*from, *to);
    for (size_t i = 0; i < source.size(); ++i) {
      if (source[i] >= 0) after[i] = before[source[i]];
    }
  }
}

}  // namespace

absl::StatusOr<ModelTopology> ModelTopology::Create(
    std::shared_ptr<const ModelLayout> layout,
    std::vector<std::shared_ptr<const Topology>> topologies) {
  ESPALIER_CHECK(layout != nullptr, "a model topology has a layout");
  if (topologies.size() != layout->size()) {
    return base::InvalidArgument(
        "TENSOR_COUNT_MISMATCH",
        fmt::format("expected one topology (or none, for dense) for each of {} tensors, found {}",
                    layout->size(), topologies.size()));
  }
  ModelTopology model;
  model.offsets_.push_back(0);
  int64_t total_size = 0;
  for (size_t i = 0; i < layout->size(); ++i) {
    const TensorSpec& spec = (*layout)[i];
    ESPALIER_RETURN_IF_ERROR(CheckSpec(spec));
    if (topologies[i]) ESPALIER_RETURN_IF_ERROR(CheckTopology(spec, *topologies[i]));
    if (spec.size() > kMaxPositions - total_size) {
      return base::InvalidArgument(
          "MODEL_TOO_LARGE",
          fmt::format("a model may have at most {} positions; tensor {} exceeds that",
                      kMaxPositions, spec.name));
    }
    total_size += spec.size();
    model.offsets_.push_back(model.offsets_.back() +
                             (topologies[i] ? topologies[i]->nnz() : spec.size()));
  }
  model.hash_ = HashOf(*layout, topologies);
  model.layout_ = std::move(layout);
  model.topologies_ = std::move(topologies);
  return model;
}

absl::StatusOr<std::shared_ptr<const Topology>> ModelTopology::Structure(size_t tensor) const {
  if (is_sparse(tensor)) return topologies_[tensor];
  const TensorSpec& spec = layout()[tensor];
  ESPALIER_ASSIGN_OR_RETURN(Topology full, Topology::Full(spec.rows, spec.cols));
  return std::make_shared<const Topology>(std::move(full));
}

int64_t ModelTopology::total_size() const { return SumOf(*layout_, false); }

int64_t ModelTopology::sparsifiable_size() const { return SumOf(*layout_, true); }

int64_t ModelTopology::sparsifiable_stored() const {
  int64_t sum = 0;
  for (size_t i = 0; i < num_tensors(); ++i) {
    if ((*layout_)[i].sparsifiable) sum += stored(i);
  }
  return sum;
}

std::vector<float> RelayoutSet(const ModelTopology& from, std::span<const float> before,
                               const ModelTopology& to) {
  std::vector<float> after(to.total_stored());
  for (size_t i = 0; i < to.num_tensors(); ++i) {
    RelayoutTensor(from.shared_topology(i).get(), before.subspan(from.offset(i), from.stored(i)),
                   to.shared_topology(i).get(),
                   std::span(after).subspan(to.offset(i), to.stored(i)));
  }
  return after;
}

ModelState Relayout(const ModelState& old, std::shared_ptr<const ModelTopology> updated) {
  ESPALIER_CHECK(old.topology->layout() == updated->layout(), "both models have the same layout");
  std::vector<float> values = RelayoutSet(*old.topology, old.values, *updated);
  std::vector<float> optimizer_state;
  auto rest = std::span<const float>(old.optimizer_state);
  while (!rest.empty()) {
    const std::vector<float> after =
        RelayoutSet(*old.topology, rest.first(old.values.size()), *updated);
    optimizer_state.insert(optimizer_state.end(), after.begin(), after.end());
    rest = rest.subspan(old.values.size());
  }
  return {std::move(updated), std::move(values), std::move(optimizer_state)};
}

}  // namespace espalier::tensor
