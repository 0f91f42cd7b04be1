#include "worker/recommender/sinks.h"

#include <algorithm>
#include <cmath>

#include "worker/engine/parallel.h"

namespace espalier::worker::recommender {

CollectSink::CollectSink(std::span<const RowTensor> tensors, std::span<float> gradients,
                         bool adds_magnitudes)
    : tensors_(tensors), adds_magnitudes_(adds_magnitudes) {
  float* begin = gradients.data();
  for (const RowTensor& tensor : tensors) {
    begin_.push_back(begin);
    begin += tensor.stored();
  }
}

void CollectSink::StoredOf(size_t tensor, int64_t first, int64_t count, const float* gradient) {
  const int64_t begin = tensors_[tensor].begin(first);
  const int64_t size = tensors_[tensor].begin(first + count) - begin;
  float* to = begin_[tensor] + begin;
  if (adds_magnitudes_) {
    for (int64_t i = 0; i < size; ++i) to[i] += std::fabs(gradient[i]);
  } else {
    std::copy_n(gradient, size, to);
  }
}

GrowthSink::GrowthSink(std::span<const RowTensor> tensors, std::span<const int64_t> counts,
                       bool sums_steps, std::span<float> active)
    : tensors_(tensors), counts_(counts), sums_steps_(sums_steps), sums_(tensors.size()) {
  if (!active.empty()) active_.emplace(tensors, active, sums_steps);
  for (size_t i = 0; i < tensors.size(); ++i) {
    const int64_t inactive = tensors[i].rows() * tensors[i].cols() - tensors[i].stored();
    top_.emplace_back(std::min(counts[i], inactive));
  }
}

void GrowthSink::Offer(size_t tensor, int64_t row, const float* gradient) {
  const RowTensor& of = tensors_[tensor];
  const std::span<const int32_t> active = of.ColumnsOf(row);
  auto next = active.begin();
  for (int64_t col = 0; col < of.cols(); ++col) {
    if (next != active.end() && *next == col) {
      ++next;
    } else if (gradient[col] != 0.0F) {
      top_[tensor].Offer(row * of.cols() + col, gradient[col]);
    }
  }
}

void GrowthSink::StoredOf(size_t tensor, int64_t first, int64_t count, const float* gradient) {
  if (active_) active_->StoredOf(tensor, first, count, gradient);
}

void GrowthSink::AllOf(size_t tensor, int64_t row, const float* gradient) {
  if (!sums_steps_) return Offer(tensor, row, gradient);
  const int64_t cols = tensors_[tensor].cols();
  auto& sums = sums_[tensor];
  auto sum = sums.find(row);
  if (sum == sums.end()) {
    const int64_t rows = std::max<int64_t>(kMaxBufferedGradients / cols, 1);
    if (static_cast<int64_t>(sums.size()) >= rows) return;
    sum = sums.emplace(row, std::vector<float>(cols)).first;
  }
  for (int64_t col = 0; col < cols; ++col) sum->second[col] += std::fabs(gradient[col]);
}

std::vector<sparsity::ScoredPositions> GrowthSink::Take() {
  std::vector<sparsity::ScoredPositions> result;
  for (size_t tensor = 0; tensor < tensors_.size(); ++tensor) {
    // The order of offers does not matter to the result.
    for (const auto& [row, sum] : sums_[tensor]) Offer(tensor, row, sum.data());
    result.push_back(wants_all(tensor) ? top_[tensor].TakeSorted() : sparsity::ScoredPositions());
  }
  return result;
}

void EmitRows(RowSink& sink, size_t index, const RowTensor& tensor, engine::RowRange rows,
              const float* gradient, int threads) {
  const int64_t groups = (rows.end - rows.begin + kRowsPerGroup - 1) / kRowsPerGroup;
  const int64_t begin = tensor.begin(rows.begin);
  constexpr int64_t kGroupsWorthThreads = 64;
  const auto emit = [&](engine::RowRange range) {
    for (int64_t group = range.begin; group < range.end; ++group) {
      const int64_t first = rows.begin + group * kRowsPerGroup;
      const int64_t count = std::min(kRowsPerGroup, rows.end - first);
      sink.StoredOf(index, first, count, gradient + (tensor.begin(first) - begin));
    }
  };
  engine::ParallelRows(groups < kGroupsWorthThreads ? 1 : threads, groups, emit);
}

void EmitUses(RowSink& sink, size_t index, const RowTensor& table,
              const engine::RowBags::Uses& uses, const float* of_examples) {
  constexpr size_t kAhead = 8;
  std::vector<float> stored(table.cols());
  size_t next = 0;
  engine::RowGradients(uses, of_examples, table.cols(), [&](int32_t row, const float* gradient) {
    if (++next + kAhead < uses.rows.size()) sink.Expect(index, uses.rows[next + kAhead]);
    table.Gather(row, gradient, stored.data());
    sink.StoredOf(index, row, 1, stored.data());
    if (sink.wants_all(index)) sink.AllOf(index, row, gradient);
  });
}

}  // namespace espalier::worker::recommender
