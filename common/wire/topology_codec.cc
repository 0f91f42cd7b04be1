#include "common/wire/topology_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/sparsity/complement.h"
#include "common/sparsity/random_topology.h"
#include "common/wire/index_set.h"

namespace espalier::wire {
namespace {

using tensor::ModelTopology;
using tensor::Topology;
using Topologies = std::vector<std::shared_ptr<const Topology>>;
using ModelTopologyPtr = std::shared_ptr<const ModelTopology>;

absl::Status Invalid(std::string_view what) {
  return base::InvalidArgument("TOPOLOGY_INVALID", fmt::format("structure refused: {}", what));
}

absl::Status HashMismatch(std::string_view what, std::string_view expected,
                          std::string_view found) {
  return base::FailedPrecondition(
      "TOPOLOGY_HASH_MISMATCH",
      fmt::format("expected {} with hash {}, found {}; fetch the whole structure", what, expected,
                  found));
}

absl::Status SeedMismatch(size_t tensor) {
  return base::MakeError(absl::StatusCode::kInternal, "SEED_MISMATCH",
                         fmt::format("positions of tensor {} do not follow from their key; this is "
                                     "a fault of the method that drew them",
                                     tensor));
}

// What may still be decoded: the sum over tensors is bounded, not each of them.
class Allowance {
 public:
  explicit Allowance(int64_t weights) : left_(std::max<int64_t>(0, weights)) {}

  int64_t left() const { return left_; }
  absl::Status Take(int64_t weights) {
    if (weights > left_) {
      return base::MakeError(absl::StatusCode::kResourceExhausted, "MODEL_TOO_LARGE",
                             fmt::format("structure refused: {} active weights in a tensor, but "
                                         "only {} more are allowed",
                                         weights, left_));
    }
    left_ -= weights;
    return absl::OkStatus();
  }

 private:
  int64_t left_;
};

absl::StatusOr<std::vector<int64_t>> DecodeSeeded(const v1::SeededPositions& seeded,
                                                  int64_t universe, int64_t max_count) {
  if (seeded.count() > static_cast<uint64_t>(std::min(universe, max_count))) {
    return Invalid(fmt::format("expected at most {} drawn positions, found {}",
                               std::min(universe, max_count), seeded.count()));
  }
  return sparsity::DrawPositions(seeded.key(), static_cast<int64_t>(seeded.count()), universe);
}

absl::StatusOr<std::vector<int64_t>> DecodePositions(const v1::IndexSet& set, int64_t universe,
                                                     int64_t max_count) {
  return DecodeIndexSet(set, static_cast<uint64_t>(universe), static_cast<uint64_t>(max_count));
}

// The tensor that an entry is for: within the layout, and behind the entry before.
absl::Status CheckTensor(uint32_t tensor, int64_t previous, size_t tensors) {
  if (tensor >= tensors || static_cast<int64_t>(tensor) <= previous) {
    return Invalid(
        fmt::format("tensor {} is out of order or beyond the {} of this model", tensor, tensors));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelTopologyPtr> MakeChecked(std::shared_ptr<const tensor::ModelLayout> layout,
                                             Topologies topologies, const std::string& hash) {
  ESPALIER_ASSIGN_OR_RETURN(ModelTopology model,
                            ModelTopology::Create(std::move(layout), std::move(topologies)));
  if (model.hash() != hash) {
    return HashMismatch("a structure", hash, model.hash());
  }
  return std::make_shared<const ModelTopology>(std::move(model));
}

absl::StatusOr<Topology> DecodeTensor(const v1::TensorTopology& message,
                                      const tensor::TensorSpec& spec, int64_t max_active) {
  std::vector<int64_t> positions;
  switch (message.form_case()) {
    case v1::TensorTopology::kPositions: {
      ESPALIER_ASSIGN_OR_RETURN(positions,
                                DecodePositions(message.positions(), spec.size(), max_active));
      break;
    }
    case v1::TensorTopology::kSeeded: {
      ESPALIER_ASSIGN_OR_RETURN(positions, DecodeSeeded(message.seeded(), spec.size(), max_active));
      break;
    }
    case v1::TensorTopology::FORM_NOT_SET:
      return Invalid(fmt::format("tensor {} has no positions", message.tensor()));
  }
  return Topology::FromPositions(spec.rows, spec.cols, positions);
}

absl::StatusOr<tensor::TopologyDiff> DecodeDiff(const v1::TensorTopologyDiff& message,
                                                const Topology& old, int64_t max_active) {
  tensor::TopologyDiff diff;
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> dropped,
                            DecodePositions(message.dropped(), old.nnz(), old.nnz()));
  diff.dropped.assign(dropped.begin(), dropped.end());
  const std::vector<int64_t> kept = sparsity::KeptPositions(old, diff.dropped);
  const int64_t kept_count = static_cast<int64_t>(kept.size());
  const int64_t free = old.size() - kept_count;
  const int64_t max_grown = std::max<int64_t>(0, max_active - kept_count);
  std::vector<int64_t> ranks;
  switch (message.grown_case()) {
    case v1::TensorTopologyDiff::kRanks: {
      ESPALIER_ASSIGN_OR_RETURN(ranks, DecodePositions(message.ranks(), free, max_grown));
      break;
    }
    case v1::TensorTopologyDiff::kSeeded: {
      ESPALIER_ASSIGN_OR_RETURN(ranks, DecodeSeeded(message.seeded(), free, max_grown));
      break;
    }
    case v1::TensorTopologyDiff::GROWN_NOT_SET:
      return Invalid(
          fmt::format("the change of tensor {} says nothing of growth", message.tensor()));
  }
  diff.grown = sparsity::RankToPosition(kept, ranks);
  return diff;
}

// The structure of a tensor after `message`. A dense tensor changes as if it stored all positions.
absl::StatusOr<std::shared_ptr<const Topology>> ApplyDiff(const v1::TensorTopologyDiff& message,
                                                          const ModelTopology& base, size_t tensor,
                                                          int64_t max_active) {
  if (!base.layout()[tensor].sparsifiable) {
    return Invalid(fmt::format("tensor {} is exempt from pruning and cannot change", tensor));
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto old, base.Structure(tensor));
  ESPALIER_ASSIGN_OR_RETURN(const tensor::TopologyDiff diff, DecodeDiff(message, *old, max_active));
  ESPALIER_ASSIGN_OR_RETURN(Topology changed, tensor::Apply(*old, diff));
  return std::make_shared<const Topology>(std::move(changed));
}

absl::Status EncodeChange(const TensorChange& change, const Topology& old,
                          v1::TensorTopologyDiff* out) {
  const std::vector<int64_t> dropped(change.diff.dropped.begin(), change.diff.dropped.end());
  const std::vector<int64_t> kept = sparsity::KeptPositions(old, change.diff.dropped);
  const std::vector<int64_t> ranks = sparsity::PositionToRank(kept, change.diff.grown);
  const int64_t free = old.size() - static_cast<int64_t>(kept.size());
  out->set_tensor(static_cast<uint32_t>(change.tensor));
  *out->mutable_dropped() = EncodeIndexSet(dropped, static_cast<uint64_t>(old.nnz()));
  if (!change.growth_key.has_value()) {
    *out->mutable_ranks() = EncodeIndexSet(ranks, static_cast<uint64_t>(free));
    return absl::OkStatus();
  }
  const int64_t count = static_cast<int64_t>(ranks.size());
  if (ranks != sparsity::DrawPositions(*change.growth_key, count, free)) {
    return SeedMismatch(change.tensor);
  }
  out->mutable_seeded()->set_key(*change.growth_key);
  out->mutable_seeded()->set_count(ranks.size());
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::FullTopology> EncodeTopology(const ModelTopology& topology,
                                                std::span<const std::optional<uint64_t>> keys) {
  ESPALIER_CHECK(keys.empty() || keys.size() == topology.num_tensors(), "one key per tensor");
  v1::FullTopology message;
  message.set_hash(topology.hash());
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (!topology.is_sparse(i)) {
      continue;
    }
    const Topology& tensor = topology.topology(i);
    const std::vector<int64_t> positions = tensor.Positions();
    v1::TensorTopology* out = message.add_tensors();
    out->set_tensor(static_cast<uint32_t>(i));
    if (keys.empty() || !keys[i].has_value()) {
      *out->mutable_positions() = EncodeIndexSet(positions, static_cast<uint64_t>(tensor.size()));
      continue;
    }
    if (positions != sparsity::DrawPositions(*keys[i], tensor.nnz(), tensor.size())) {
      return SeedMismatch(i);
    }
    out->mutable_seeded()->set_key(*keys[i]);
    out->mutable_seeded()->set_count(positions.size());
  }
  return message;
}

absl::StatusOr<ModelTopologyPtr> DecodeTopology(const v1::FullTopology& message,
                                                std::shared_ptr<const tensor::ModelLayout> layout,
                                                int64_t max_active_weights) {
  Topologies topologies(layout->size());
  Allowance allowance(max_active_weights);
  int64_t previous = -1;
  for (const v1::TensorTopology& entry : message.tensors()) {
    ESPALIER_RETURN_IF_ERROR(CheckTensor(entry.tensor(), previous, layout->size()));
    previous = entry.tensor();
    ESPALIER_ASSIGN_OR_RETURN(Topology topology,
                              DecodeTensor(entry, (*layout)[entry.tensor()], allowance.left()));
    ESPALIER_RETURN_IF_ERROR(allowance.Take(topology.nnz()));
    topologies[entry.tensor()] = std::make_shared<const Topology>(std::move(topology));
  }
  return MakeChecked(std::move(layout), std::move(topologies), message.hash());
}

absl::StatusOr<v1::TopologyUpdate> EncodeTopologyUpdate(const ModelTopology& base,
                                                        const ModelTopology& updated,
                                                        std::span<const TensorChange> changes) {
  v1::TopologyUpdate update;
  update.set_base_hash(base.hash());
  update.set_hash(updated.hash());
  int64_t previous = -1;
  for (const TensorChange& change : changes) {
    ESPALIER_CHECK(change.tensor < base.num_tensors() &&
                       base.layout()[change.tensor].sparsifiable &&
                       static_cast<int64_t>(change.tensor) > previous,
                   "changes must be of sparsifiable tensors, ascending");
    previous = static_cast<int64_t>(change.tensor);
    ESPALIER_ASSIGN_OR_RETURN(const auto old, base.Structure(change.tensor));
    // Indices and positions are checked here, so that encoding below may rely on their order.
    if (const auto applied = tensor::Apply(*old, change.diff); !applied.ok()) {
      return base::MakeError(
          absl::StatusCode::kInternal, "TOPOLOGY_INVALID",
          fmt::format("change of tensor {}: {}", change.tensor, base::MessageOf(applied.status())));
    }
    ESPALIER_RETURN_IF_ERROR(EncodeChange(change, *old, update.add_tensors()));
  }
  return update;
}

absl::StatusOr<ModelTopologyPtr> ApplyTopologyUpdate(const ModelTopology& base,
                                                     const v1::TopologyUpdate& update,
                                                     int64_t max_active_weights) {
  if (update.base_hash() != base.hash()) {
    return HashMismatch("a change of the structure", base.hash(), update.base_hash());
  }
  Topologies topologies(base.num_tensors());
  Allowance allowance(max_active_weights);
  int next = 0;
  int64_t previous = -1;
  for (size_t i = 0; i < base.num_tensors(); ++i) {
    topologies[i] = base.shared_topology(i);
    if (next < update.tensors_size() && update.tensors(next).tensor() == i) {
      ESPALIER_ASSIGN_OR_RETURN(topologies[i],
                                ApplyDiff(update.tensors(next), base, i, allowance.left()));
      previous = static_cast<int64_t>(i);
      ++next;
    }
    if (topologies[i] != nullptr) {
      ESPALIER_RETURN_IF_ERROR(allowance.Take(topologies[i]->nnz()));
    }
  }
  if (next < update.tensors_size()) {
    return CheckTensor(update.tensors(next).tensor(), previous, base.num_tensors());
  }
  return MakeChecked(base.shared_layout(), std::move(topologies), update.hash());
}

}  // namespace espalier::wire
