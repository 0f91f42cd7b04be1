#include "server/methods/start/trained_start.h"

#include <fmt/core.h>

#include <algorithm>
#include <span>
#include <utility>

#include "common/base/status.h"
#include "common/sparsity/top_k.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/start/dense_source.h"

namespace espalier::server::methods {
namespace {

using Structure = std::shared_ptr<const tensor::Topology>;

absl::StatusOr<std::vector<float>> ReadTensor(const DenseSource& source, size_t tensor) {
  std::vector<float> values;
  ESPALIER_RETURN_IF_ERROR(source.Read(tensor, [&](std::span<const float> piece) {
    values.insert(values.end(), piece.begin(), piece.end());
  }));
  return values;
}

// Null when these are all positions.
absl::StatusOr<Structure> StructureOf(const tensor::TensorSpec& spec,
                                      const std::vector<int64_t>& positions) {
  if (static_cast<int64_t>(positions.size()) == spec.size()) return nullptr;
  ESPALIER_ASSIGN_OR_RETURN(tensor::Topology topology,
                            tensor::Topology::FromPositions(spec.rows, spec.cols, positions));
  return std::make_shared<const tensor::Topology>(std::move(topology));
}

// The `count` largest weights, none of which is zero; among equals the lower position.
absl::StatusOr<Structure> Largest(const DenseSource& source, size_t tensor,
                                  const tensor::TensorSpec& spec, int64_t count) {
  if (count == spec.size()) return nullptr;
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<float> values, ReadTensor(source, tensor));
  sparsity::TopK largest(count);
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i] != 0) largest.Offer(static_cast<int64_t>(i), values[i]);
  }
  const std::vector<int64_t> positions = largest.TakeSorted().positions;
  if (static_cast<int64_t>(positions.size()) < count) {
    return base::FailedPrecondition(
        "DENSITY_ABOVE_MODEL",
        fmt::format("expected at least {} weights in {} of the trained model, as "
                    "method.parameters ask for, found {} that are not zero; lower the density, or "
                    "leave it out to keep all of them",
                    count, spec.name, positions.size()));
  }
  return StructureOf(spec, positions);
}

absl::Status PrunedWhereDense(const std::string& tensor, int64_t stored, int64_t size) {
  return base::FailedPrecondition(
      "SPARSE_CHECKPOINT",
      fmt::format("expected all {} weights of {} in the trained model, since the job's model says "
                  "that this layer is dense, found {} of them; remove that from the job's model, "
                  "or begin with a model in which it is dense",
                  size, tensor, stored));
}

}  // namespace

bool KeepsZeros(const v1::JobSpec& spec) {
  return !spec.model().pretrained().empty() && !IsGiven(spec, "density") &&
         !IsGiven(spec, "distribution") && !IsGiven(spec, "epsilon");
}

absl::StatusOr<std::vector<Structure>> StoredStructure(const v1::JobSpec& spec,
                                                       const tensor::ModelLayout& layout,
                                                       const pretrained::ModelLibrary* library) {
  ESPALIER_ASSIGN_OR_RETURN(const auto source,
                            OpenDenseSource(spec.model(), spec.seed(), library, TrainedForm::kAny));
  std::vector<Structure> structures(layout.size());
  for (size_t i = 0; i < layout.size(); ++i) {
    const int64_t size = layout[i].size();
    ESPALIER_ASSIGN_OR_RETURN(const int64_t stored, source->Stored(i));
    if (!layout[i].sparsifiable) {
      if (stored < size) return PrunedWhereDense(layout[i].name, stored, size);
      continue;
    }
    ESPALIER_ASSIGN_OR_RETURN(structures[i], source->Structure(i));
    const bool in_folder = stored == size;
    if (in_folder && structures[i] != nullptr && size - structures[i]->nnz() <= size / 100) {
      structures[i] = nullptr;
    }
  }
  return structures;
}

absl::StatusOr<std::vector<Structure>> StartStructure(const v1::JobSpec& spec,
                                                      const tensor::ModelLayout& layout,
                                                      const Budget& budget,
                                                      const pretrained::ModelLibrary* library) {
  if (spec.model().pretrained().empty()) return RandomStructure(layout, budget, spec.seed());
  if (KeepsZeros(spec)) {
    ESPALIER_ASSIGN_OR_RETURN(auto structures, StoredStructure(spec, layout, library));
    if (std::ranges::any_of(structures, [](const auto& s) { return s != nullptr; })) {
      return structures;
    }
    return base::FailedPrecondition(
        "DENSE_MODEL",
        fmt::format("expected a trained model with zeros to keep, or a density, found that {} is "
                    "dense; set method.parameters.density, and the largest weights of each layer "
                    "are kept, prune the model first, or use method finetune or dense",
                    spec.model().pretrained()));
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto source,
                            OpenDenseSource(spec.model(), spec.seed(), library, TrainedForm::kAny));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> counts, StoredCounts(layout, budget));
  std::vector<Structure> structures(layout.size());
  for (size_t i = 0; i < layout.size(); ++i) {
    if (!layout[i].sparsifiable) continue;
    ESPALIER_ASSIGN_OR_RETURN(structures[i], Largest(*source, i, layout[i], counts[i]));
  }
  return structures;
}

absl::StatusOr<std::vector<float>> TrainedValues(const v1::JobSpec& spec,
                                                 const tensor::ModelTopology& topology,
                                                 const pretrained::ModelLibrary* library) {
  const bool dense = std::ranges::none_of(topology.layout(), [&](const tensor::TensorSpec& spec) {
    return topology.is_sparse(static_cast<size_t>(&spec - topology.layout().data()));
  });
  ESPALIER_ASSIGN_OR_RETURN(const auto source,
                            OpenDenseSource(spec.model(), spec.seed(), library,
                                            dense ? TrainedForm::kDense : TrainedForm::kAny));
  std::vector<float> values;
  values.reserve(static_cast<size_t>(topology.total_stored()));
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    ESPALIER_ASSIGN_OR_RETURN(const std::vector<float> tensor, ReadTensor(*source, i));
    if (!topology.is_sparse(i)) {
      values.insert(values.end(), tensor.begin(), tensor.end());
      continue;
    }
    for (const int64_t position : topology.topology(i).Positions()) {
      values.push_back(tensor[position]);
    }
  }
  return values;
}

absl::StatusOr<std::vector<int64_t>> StartCounts(const v1::JobSpec& spec,
                                                 const config::Parameters& parameters,
                                                 const pretrained::ModelLibrary* library) {
  if (!KeepsZeros(spec)) return StoredCountsOf(spec, parameters);
  ESPALIER_ASSIGN_OR_RETURN(
      const auto source, OpenDenseSource(spec.model(), spec.seed(), library, TrainedForm::kHeader));
  ESPALIER_ASSIGN_OR_RETURN(const auto layout, wire::LayoutOf(spec.model()));
  std::vector<int64_t> counts;
  for (size_t i = 0; i < layout->size(); ++i) {
    ESPALIER_ASSIGN_OR_RETURN(const int64_t stored, source->Stored(i));
    counts.push_back(stored);
  }
  return counts;
}

absl::StatusOr<std::shared_ptr<const pretrained::Companions>> CompanionsOf(
    const v1::ModelSpec& spec, const pretrained::ModelLibrary* library) {
  if (spec.pretrained().empty() || library == nullptr) return nullptr;
  ESPALIER_ASSIGN_OR_RETURN(const auto source,
                            OpenDenseSource(spec, /*seed=*/0, library, TrainedForm::kHeader));
  return source->Companions(library->parts());
}

}  // namespace espalier::server::methods
