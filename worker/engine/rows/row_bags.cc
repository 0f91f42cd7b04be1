#include "worker/engine/rows/row_bags.h"

#include <algorithm>

#include "worker/engine/multiversion.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

// How many entries ahead a row is fetched: they lie anywhere in a table.
constexpr int64_t kAhead = 16;

// sums [count][cols]: of each n the rows of `table` that its entries name, times their weights.
ESPALIER_MULTIVERSION
void SumRows(const float* table, int64_t cols, const int64_t* begin, std::span<const int32_t> rows,
             const float* weights, int64_t count, float* sums) {
  const auto entries = static_cast<int64_t>(rows.size());
  for (int64_t n = 0; n < count; ++n) {
    float* __restrict sum = sums + n * cols;
    for (int64_t c = 0; c < cols; ++c) sum[c] = 0;
    for (int64_t k = begin[n]; k < begin[n + 1]; ++k) {
      if (k + kAhead < entries) __builtin_prefetch(table + rows[k + kAhead] * cols);
      const float* __restrict row = table + rows[k] * cols;
      for (int64_t c = 0; c < cols; ++c) sum[c] += weights[k] * row[c];
    }
  }
}

void SumSparseRows(const RowTensor& table, const int64_t* begin, std::span<const int32_t> rows,
                   const float* weights, int64_t count, float* sums) {
  const auto entries = static_cast<int64_t>(rows.size());
  std::fill_n(sums, count * table.cols(), 0.0F);
  for (int64_t n = 0; n < count; ++n) {
    float* sum = sums + n * table.cols();
    for (int64_t k = begin[n]; k < begin[n + 1]; ++k) {
      if (k + kAhead < entries) {
        __builtin_prefetch(table.Row(rows[k + kAhead]).data());
        __builtin_prefetch(table.ColumnsOf(rows[k + kAhead]).data());
      }
      const std::span<const float> stored = table.Row(rows[k]);
      const std::span<const int32_t> columns = table.ColumnsOf(rows[k]);
      for (size_t c = 0; c < columns.size(); ++c) sum[columns[c]] += weights[k] * stored[c];
    }
  }
}

}  // namespace

RowBags::RowBags(std::span<const int32_t> rows)
    : begin_(rows.size() + 1), rows_(rows.begin(), rows.end()), weights_(rows.size(), 1.0F) {
  for (size_t n = 0; n < begin_.size(); ++n) begin_[n] = static_cast<int64_t>(n);
}

void RowBags::Add(std::span<const int32_t> rows, float weight) {
  rows_.insert(rows_.end(), rows.begin(), rows.end());
  weights_.resize(rows_.size(), weight);
  begin_.push_back(static_cast<int64_t>(rows_.size()));
}

void RowBags::Add(std::span<const int32_t> rows, std::span<const float> weights) {
  for (size_t k = 0; k < rows.size(); ++k) {
    if (weights[k] == 0.0F) continue;
    rows_.push_back(rows[k]);
    weights_.push_back(weights[k]);
  }
  begin_.push_back(static_cast<int64_t>(rows_.size()));
}

void RowBags::Forward(const RowTensor& table, int64_t first, Extent extent, int64_t stride,
                      float* out, int threads) const {
  const int64_t cols = table.cols();
  // Examples of a cache line of the result together, since their columns are scattered over it.
  ParallelRows(threads, extent.width / kLanes, [&](RowRange blocks) {
    std::vector<float> sums(kLanes * cols);
    for (int64_t block = blocks.begin; block < blocks.end; ++block) {
      const int64_t at = block * kLanes;
      const int64_t* begin = begin_.data() + first + at;
      const int64_t examples = std::clamp<int64_t>(extent.size - at, 0, kLanes);
      std::fill(sums.begin() + examples * cols, sums.end(), 0.0F);
      if (!table.is_sparse()) {
        SumRows(table.values(), cols, begin, rows_, weights_.data(), examples, sums.data());
      } else {
        SumSparseRows(table, begin, rows_, weights_.data(), examples, sums.data());
      }
      for (int64_t c = 0; c < cols; ++c) {
        float* to = out + c * stride + at;
        for (int64_t lane = 0; lane < kLanes; ++lane) to[lane] = sums[lane * cols + c];
      }
    }
  });
}

RowBags::Uses RowBags::ByRow() const {
  // The row, then the place among the entries.
  std::vector<uint64_t> keys(rows_.size());
  for (size_t k = 0; k < keys.size(); ++k) keys[k] = static_cast<uint64_t>(rows_[k]) << 32 | k;
  std::ranges::sort(keys);
  std::vector<int32_t> example_of(rows_.size());
  for (int64_t example = 0; example < size(); ++example) {
    for (int64_t k = begin_[example]; k < begin_[example + 1]; ++k) {
      example_of[k] = static_cast<int32_t>(example);
    }
  }
  Uses uses;
  for (const uint64_t key : keys) {
    const auto row = static_cast<int32_t>(key >> 32);
    if (uses.rows.empty() || uses.rows.back() != row) {
      uses.rows.push_back(row);
      uses.begin.push_back(uses.begin.back());
    }
    uses.examples.push_back(example_of[key & 0xFFFFFFFF]);
    uses.weights.push_back(weights_[key & 0xFFFFFFFF]);
    ++uses.begin.back();
  }
  return uses;
}

void RowGradients(const RowBags::Uses& uses, const float* of_examples, int64_t cols,
                  const std::function<void(int32_t row, const float* gradient)>& sink) {
  constexpr int64_t kRows = 64;
  const auto rows = static_cast<int64_t>(uses.rows.size());
  std::vector<float> gradients(kRows * cols);
  for (int64_t first = 0; first < rows; first += kRows) {
    const int64_t count = std::min(kRows, rows - first);
    SumRows(of_examples, cols, uses.begin.data() + first, uses.examples, uses.weights.data(), count,
            gradients.data());
    for (int64_t n = 0; n < count; ++n) sink(uses.rows[first + n], gradients.data() + n * cols);
  }
}

void Transpose(const float* from, int64_t rows, int64_t stride, int64_t size, float* to) {
  for (int64_t first = 0; first < size; first += kLanes) {
    const int64_t last = std::min(first + kLanes, size);
    for (int64_t r = 0; r < rows; ++r) {
      for (int64_t n = first; n < last; ++n) to[n * rows + r] = from[r * stride + n];
    }
  }
}

}  // namespace espalier::worker::engine
