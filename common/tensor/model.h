// Model: named tensors with their topologies, and one flat array of values.
//
// Layout order: tensors in the order of ModelLayout; within a sparse tensor the topology order,
//               within a dense tensor row-major. A ModelState's `values` is their concatenation, so
//               that averaging, sending and hashing a model are loops over one array.
// Memory:       4 bytes per active weight for values, 4 for the column index.
// Threading:    ModelLayout and ModelTopology are immutable and shared; ModelState is a plain
//               value.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/topology.h"

namespace espalier::tensor {

// One tensor of a model. Vectors (biases) have cols == 1.
struct TensorSpec {
  std::string name;            // for example "layers.0.weight"
  std::vector<int64_t> shape;  // out × in for a linear layer, then the kernel of a convolution
  int64_t rows = 0;            // shape[0]
  int64_t cols = 0;            // product of the other dimensions
  bool sparsifiable = false;   // biases, normalisation parameters and exempt layers are not
  bool buffer = false;         // kept by training but not learned: running statistics
  int64_t size() const { return rows * cols; }
  friend bool operator==(const TensorSpec&, const TensorSpec&) = default;
};

using ModelLayout = std::vector<TensorSpec>;

// Structure of all tensors of a model. A tensor without a topology is dense.
class ModelTopology {
 public:
  // `topologies` has one entry per tensor; null means dense. Shapes must agree with the layout.
  static absl::StatusOr<ModelTopology> Create(
      std::shared_ptr<const ModelLayout> layout,
      std::vector<std::shared_ptr<const Topology>> topologies);

  const ModelLayout& layout() const { return *layout_; }
  std::shared_ptr<const ModelLayout> shared_layout() const { return layout_; }
  size_t num_tensors() const { return layout_->size(); }
  bool is_sparse(size_t tensor) const { return topologies_[tensor] != nullptr; }
  const Topology& topology(size_t tensor) const { return *topologies_[tensor]; }
  std::shared_ptr<const Topology> shared_topology(size_t tensor) const {
    return topologies_[tensor];
  }
  // The structure of a sparse tensor; of a dense one all its positions, made for the call (4 bytes
  // per weight). Errors: those of Topology::Full().
  absl::StatusOr<std::shared_ptr<const Topology>> Structure(size_t tensor) const;
  // Stored values of one tensor: nnz when sparse, rows·cols when dense.
  int64_t stored(size_t tensor) const { return offsets_[tensor + 1] - offsets_[tensor]; }
  // Where the values of a tensor begin in ModelState::values.
  int64_t offset(size_t tensor) const { return offsets_[tensor]; }
  // Stored values of the whole model.
  int64_t total_stored() const { return offsets_.back(); }
  // Dense size of all tensors, and of those that are sparsifiable.
  int64_t total_size() const;
  int64_t sparsifiable_size() const;
  // Active weights of sparsifiable tensors.
  int64_t sparsifiable_stored() const;
  // SHA-256 (hex) over names, shapes and index structures: equal hashes mean equal structures.
  const std::string& hash() const { return hash_; }

 private:
  std::shared_ptr<const ModelLayout> layout_;
  std::vector<std::shared_ptr<const Topology>> topologies_;
  std::vector<int64_t> offsets_;
  std::string hash_;
};

// A topology with values. `values.size() == topology->total_stored()`.
struct ModelState {
  std::shared_ptr<const ModelTopology> topology;
  std::vector<float> values;
  // Optimizer state that crosses rounds: whole multiples of values.size(), each in the order of
  // `values` (momentum; or Adam's first moments, then its second). Empty: starts anew.
  std::vector<float> optimizer_state = {};

  std::span<const float> tensor(size_t i) const {
    return std::span<const float>(values).subspan(topology->offset(i), topology->stored(i));
  }
  std::span<float> tensor(size_t i) {
    return std::span<float>(values).subspan(topology->offset(i), topology->stored(i));
  }
};

// Re-lays `old` out for `updated` (same layout): kept weights keep their value and optimizer state,
// new ones have 0.
ModelState Relayout(const ModelState& old, std::shared_ptr<const ModelTopology> updated);

// The same for one number for each stored weight.
std::vector<float> RelayoutSet(const ModelTopology& from, std::span<const float> before,
                               const ModelTopology& to);

}  // namespace espalier::tensor
