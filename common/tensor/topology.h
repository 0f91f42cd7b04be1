// Topology: which weights of one matrix exist, as a CSR index structure without values.
//
// Shapes:      rows × cols; a convolution out × in × kh × kw is seen as out × (in·kh·kw).
// Order:       "topology order" is row by row, columns ascending; values always follow this order.
// Positions:   a flat position is row·cols + col (int64).
// Memory:      4 bytes per active weight + 4 bytes per row. Never anything of size rows × cols.
// Threading:   immutable after construction; shared freely as std::shared_ptr<const Topology>.
// Errors:      Create() and friends return InvalidArgument; the other members assume a valid
//              object.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::tensor {

class Topology {
 public:
  // From ascending, distinct flat positions in [0, rows·cols).
  static absl::StatusOr<Topology> FromPositions(int64_t rows, int64_t cols,
                                                std::span<const int64_t> positions);
  // From a CSR structure: row_offsets has rows + 1 entries, columns ascending within each row.
  static absl::StatusOr<Topology> FromCsr(int64_t rows, int64_t cols,
                                          std::vector<int32_t> row_offsets,
                                          std::vector<int32_t> columns);
  // All rows·cols positions (needs rows·cols < 2^31).
  static absl::StatusOr<Topology> Full(int64_t rows, int64_t cols);

  int64_t rows() const { return rows_; }
  int64_t cols() const { return cols_; }
  int64_t size() const { return rows_ * cols_; }
  int64_t nnz() const { return static_cast<int64_t>(columns_.size()); }
  double density() const { return size() == 0 ? 0.0 : static_cast<double>(nnz()) / size(); }
  std::span<const int32_t> row_offsets() const { return row_offsets_; }
  std::span<const int32_t> columns() const { return columns_; }

  // Ascending flat positions of all active weights; O(nnz) memory for the result.
  std::vector<int64_t> Positions() const;

  friend bool operator==(const Topology&, const Topology&) = default;

 private:
  Topology(int64_t rows, int64_t cols, std::vector<int32_t> row_offsets,
           std::vector<int32_t> columns)
      : rows_(rows),
        cols_(cols),
        row_offsets_(std::move(row_offsets)),
        columns_(std::move(columns)) {}

  int64_t rows_;
  int64_t cols_;
  std::vector<int32_t> row_offsets_;
  std::vector<int32_t> columns_;
};

// The transposed structure and, for each of its entries, the index of the same weight in the
// original order: values_T[k] = values[permutation[k]]. O(nnz + rows + cols).
struct TransposedTopology {
  Topology topology;
  std::vector<int32_t> permutation;
};
TransposedTopology Transpose(const Topology& topology);

// A change of topology at constant shape. `dropped` are indices into the old topology order,
// `grown` flat positions that are active afterwards and were not kept; both ascending, distinct.
struct TopologyDiff {
  std::vector<int32_t> dropped;
  std::vector<int64_t> grown;
};

// The topology after dropping and growing.
// Errors: InvalidArgument when an index is out of range, or a grown position is already kept.
absl::StatusOr<Topology> Apply(const Topology& old, const TopologyDiff& diff);

// For each weight of `updated`, its index in `old`, or -1 where it is new. O(nnz).
std::vector<int32_t> SourceIndices(const Topology& old, const Topology& updated);

}  // namespace espalier::tensor
