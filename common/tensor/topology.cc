#include "common/tensor/topology.h"

#include <fmt/format.h>

#include <limits>
#include <numeric>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"

namespace espalier::tensor {
namespace {

// Row offsets and columns are 32-bit, so that an active weight costs 4 bytes of structure.
constexpr int64_t kMaxIndex = std::numeric_limits<int32_t>::max();

absl::Status CheckShape(int64_t rows, int64_t cols) {
  if (rows >= 0 && cols >= 0 && rows < kMaxIndex && cols <= kMaxIndex) return absl::OkStatus();
  return base::InvalidArgument(
      "SHAPE_OUT_OF_RANGE",
      fmt::format("a topology needs 0 to {} rows and columns, found {} x {}; split the tensor",
                  kMaxIndex - 1, rows, cols));
}

absl::Status CheckCount(int64_t nnz) {
  if (nnz <= kMaxIndex) return absl::OkStatus();
  return base::InvalidArgument(
      "TOO_MANY_WEIGHTS",
      fmt::format("a topology holds at most {} active weights, found {}; lower the density",
                  kMaxIndex, nnz));
}

// Positions must ascend strictly within [0, size).
absl::Status CheckPositions(std::span<const int64_t> positions, int64_t size) {
  int64_t previous = -1;
  for (const int64_t position : positions) {
    if (position < 0 || position >= size) {
      return base::InvalidArgument(
          "POSITION_OUT_OF_RANGE",
          fmt::format("positions must lie in [0, {}), found {}", size, position));
    }
    if (position <= previous) {
      return base::InvalidArgument(
          "POSITIONS_NOT_ASCENDING",
          fmt::format("positions must be distinct and ascending, found {} after {}", position,
                      previous));
    }
    previous = position;
  }
  return absl::OkStatus();
}

absl::Status CheckDropped(std::span<const int32_t> dropped, int64_t nnz) {
  int64_t previous = -1;
  for (const int32_t index : dropped) {
    if (index < 0 || index >= nnz) {
      return base::InvalidArgument(
          "DROPPED_OUT_OF_RANGE",
          fmt::format("dropped indices must lie in [0, {}), found {}", nnz, index));
    }
    if (index <= previous) {
      return base::InvalidArgument(
          "DROPPED_NOT_ASCENDING",
          fmt::format("dropped indices must be distinct and ascending, found {} after {}", index,
                      previous));
    }
    previous = index;
  }
  return absl::OkStatus();
}

absl::Status CheckRowOffsets(std::span<const int32_t> row_offsets, int64_t rows, int64_t nnz) {
  if (static_cast<int64_t>(row_offsets.size()) != rows + 1) {
    return base::InvalidArgument(
        "CSR_ROW_OFFSETS", fmt::format("expected {} row offsets for {} rows, found {}", rows + 1,
                                       rows, row_offsets.size()));
  }
  if (row_offsets.front() != 0 || row_offsets.back() != nnz) {
    return base::InvalidArgument(
        "CSR_ROW_OFFSETS", fmt::format("row offsets must run from 0 to {}, found {} to {}", nnz,
                                       row_offsets.front(), row_offsets.back()));
  }
  for (int64_t row = 0; row < rows; ++row) {
    if (row_offsets[row + 1] < row_offsets[row]) {
      return base::InvalidArgument(
          "CSR_ROW_OFFSETS", fmt::format("row offsets must not fall, found {} after {} at row {}",
                                         row_offsets[row + 1], row_offsets[row], row));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckColumns(std::span<const int32_t> columns, int64_t cols, int64_t row) {
  int64_t previous = -1;
  for (const int32_t column : columns) {
    if (column <= previous || column >= cols) {
      return base::InvalidArgument(
          "CSR_COLUMNS",
          fmt::format("columns of row {} must ascend strictly within [0, {}), found {} after {}",
                      row, cols, column, previous));
    }
    previous = column;
  }
  return absl::OkStatus();
}

std::span<const int32_t> RowColumns(const Topology& topology, int64_t row) {
  const int32_t begin = topology.row_offsets()[row];
  return topology.columns().subspan(begin, topology.row_offsets()[row + 1] - begin);
}

}  // namespace

absl::StatusOr<Topology> Topology::FromPositions(int64_t rows, int64_t cols,
                                                 std::span<const int64_t> positions) {
  ESPALIER_RETURN_IF_ERROR(CheckShape(rows, cols));
  ESPALIER_RETURN_IF_ERROR(CheckCount(static_cast<int64_t>(positions.size())));
  ESPALIER_RETURN_IF_ERROR(CheckPositions(positions, rows * cols));
  std::vector<int32_t> row_offsets(rows + 1);
  std::vector<int32_t> columns(positions.size());
  size_t next = 0;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t row_begin = row * cols;
    while (next < positions.size() && positions[next] < row_begin + cols) {
      columns[next] = static_cast<int32_t>(positions[next] - row_begin);
      ++next;
    }
    row_offsets[row + 1] = static_cast<int32_t>(next);
  }
  return Topology(rows, cols, std::move(row_offsets), std::move(columns));
}

absl::StatusOr<Topology> Topology::FromCsr(int64_t rows, int64_t cols,
                                           std::vector<int32_t> row_offsets,
                                           std::vector<int32_t> columns) {
  ESPALIER_RETURN_IF_ERROR(CheckShape(rows, cols));
  const auto nnz = static_cast<int64_t>(columns.size());
  ESPALIER_RETURN_IF_ERROR(CheckCount(nnz));
  ESPALIER_RETURN_IF_ERROR(CheckRowOffsets(row_offsets, rows, nnz));
  const std::span<const int32_t> all(columns);
  for (int64_t row = 0; row < rows; ++row) {
    const int32_t begin = row_offsets[row];
    ESPALIER_RETURN_IF_ERROR(
        CheckColumns(all.subspan(begin, row_offsets[row + 1] - begin), cols, row));
  }
  return Topology(rows, cols, std::move(row_offsets), std::move(columns));
}

absl::StatusOr<Topology> Topology::Full(int64_t rows, int64_t cols) {
  ESPALIER_RETURN_IF_ERROR(CheckShape(rows, cols));
  ESPALIER_RETURN_IF_ERROR(CheckCount(rows * cols));
  std::vector<int32_t> row_offsets(rows + 1);
  std::vector<int32_t> columns(rows * cols);
  for (int64_t row = 0; row < rows; ++row) {
    const auto begin = columns.begin() + row * cols;
    std::iota(begin, begin + cols, 0);
    row_offsets[row + 1] = static_cast<int32_t>((row + 1) * cols);
  }
  return Topology(rows, cols, std::move(row_offsets), std::move(columns));
}

std::vector<int64_t> Topology::Positions() const {
  std::vector<int64_t> positions(columns_.size());
  for (int64_t row = 0; row < rows_; ++row) {
    for (int32_t i = row_offsets_[row]; i < row_offsets_[row + 1]; ++i) {
      positions[i] = row * cols_ + columns_[i];
    }
  }
  return positions;
}

TransposedTopology Transpose(const Topology& topology) {
  // Counting sort by column; taking the rows in order keeps each column's entries ascending.
  std::vector<int32_t> offsets(topology.cols() + 1);
  for (const int32_t column : topology.columns()) ++offsets[column + 1];
  std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  std::vector<int32_t> next(offsets.begin(), offsets.end() - 1);
  std::vector<int32_t> rows(topology.nnz());
  std::vector<int32_t> permutation(topology.nnz());
  const std::span<const int32_t> row_offsets = topology.row_offsets();
  for (int64_t row = 0; row < topology.rows(); ++row) {
    for (int32_t i = row_offsets[row]; i < row_offsets[row + 1]; ++i) {
      const int32_t slot = next[topology.columns()[i]]++;
      rows[slot] = static_cast<int32_t>(row);
      permutation[slot] = i;
    }
  }
  absl::StatusOr<Topology> transposed =
      Topology::FromCsr(topology.cols(), topology.rows(), std::move(offsets), std::move(rows));
  ESPALIER_CHECK(transposed.ok(), "the transpose of a valid topology is valid");
  return {*std::move(transposed), std::move(permutation)};
}

absl::StatusOr<Topology> Apply(const Topology& old, const TopologyDiff& diff) {
  ESPALIER_RETURN_IF_ERROR(CheckDropped(diff.dropped, old.nnz()));
  ESPALIER_RETURN_IF_ERROR(CheckPositions(diff.grown, old.size()));
  const int64_t nnz = old.nnz() - static_cast<int64_t>(diff.dropped.size()) +
                      static_cast<int64_t>(diff.grown.size());
  ESPALIER_RETURN_IF_ERROR(CheckCount(nnz));
  std::vector<int32_t> row_offsets(old.rows() + 1);
  std::vector<int32_t> columns;
  columns.reserve(nnz);
  size_t dropped = 0;
  size_t grown = 0;
  for (int64_t row = 0; row < old.rows(); ++row) {
    const int64_t row_begin = row * old.cols();
    // Appends the grown columns of this row that lie before `limit`.
    const auto append_grown = [&](int64_t limit) {
      while (grown < diff.grown.size() && diff.grown[grown] < row_begin + limit) {
        columns.push_back(static_cast<int32_t>(diff.grown[grown++] - row_begin));
      }
    };
    for (int32_t i = old.row_offsets()[row]; i < old.row_offsets()[row + 1]; ++i) {
      if (dropped < diff.dropped.size() && diff.dropped[dropped] == i) {
        ++dropped;
        continue;
      }
      const int32_t column = old.columns()[i];
      append_grown(column);
      if (grown < diff.grown.size() && diff.grown[grown] == row_begin + column) {
        return base::InvalidArgument(
            "GROWN_ALREADY_ACTIVE",
            fmt::format("grown positions must not be active after the drop, found {} (row {}, "
                        "column {}), which is kept",
                        diff.grown[grown], row, column));
      }
      columns.push_back(column);
    }
    append_grown(old.cols());
    row_offsets[row + 1] = static_cast<int32_t>(columns.size());
  }
  return Topology::FromCsr(old.rows(), old.cols(), std::move(row_offsets), std::move(columns));
}

std::vector<int32_t> SourceIndices(const Topology& old, const Topology& updated) {
  ESPALIER_CHECK(old.rows() == updated.rows() && old.cols() == updated.cols(),
                 "both topologies have the same shape");
  std::vector<int32_t> source(updated.nnz(), -1);
  for (int64_t row = 0; row < old.rows(); ++row) {
    const std::span<const int32_t> before = RowColumns(old, row);
    const std::span<const int32_t> after = RowColumns(updated, row);
    const int32_t before_begin = old.row_offsets()[row];
    const int32_t after_begin = updated.row_offsets()[row];
    size_t i = 0;
    for (size_t j = 0; j < after.size(); ++j) {
      while (i < before.size() && before[i] < after[j]) ++i;
      if (i < before.size() && before[i] == after[j]) {
        source[after_begin + j] = before_begin + static_cast<int32_t>(i);
      }
    }
  }
  return source;
}

}  // namespace espalier::tensor
