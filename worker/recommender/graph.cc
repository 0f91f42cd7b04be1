#include "worker/recommender/graph.h"

#include <algorithm>
#include <cmath>

#include "worker/engine/kernels/sparse_product.h"
#include "worker/engine/parallel.h"
#include "worker/engine/rows/row_arithmetic.h"

namespace espalier::worker::recommender {

using engine::AddScaled;
using engine::kLanes;
using engine::ParallelParts;

Graph::Graph(const Interactions& train, int threads)
    : threads_(threads), kernels_(engine::Kernels(engine::DetectIsa())) {
  users_.columns.assign(train.columns().begin(), train.columns().end());
  users_.offsets.assign(train.offsets().begin(), train.offsets().end());
  items_.offsets.resize(train.items() + 1);
  for (const int32_t item : users_.columns) ++items_.offsets[item + 1];
  for (int64_t i = 0; i < train.items(); ++i) items_.offsets[i + 1] += items_.offsets[i];
  users_.values.resize(train.size());
  items_.values.resize(train.size());
  items_.columns.resize(train.size());
  std::vector<int32_t> next(items_.offsets.begin(), items_.offsets.end() - 1);
  for (int64_t user = 0; user < train.users(); ++user) {
    for (int32_t k = users_.offsets[user]; k < users_.offsets[user + 1]; ++k) {
      const int32_t item = users_.columns[k];
      const double degrees = static_cast<double>(train.CountOf(user)) *
                             static_cast<double>(items_.offsets[item + 1] - items_.offsets[item]);
      const auto value = static_cast<float>(1 / std::sqrt(degrees));
      users_.values[k] = value;
      items_.columns[next[item]] = static_cast<int32_t>(user);
      items_.values[next[item]++] = value;
    }
  }
  users_.part_begin = engine::BalanceRows(users_.offsets, threads);
  items_.part_begin = engine::BalanceRows(items_.offsets, threads);
}

void Graph::Multiply(const Half& half, const int32_t* begin, const int32_t* end, const float* x,
                     int64_t stride, float* y, engine::RowRange rows) const {
  const engine::CsrPanel panel = {begin, end, half.columns.data()};
  const int64_t blocks = stride / kLanes;
  for (int64_t first = 0; first < blocks; first += kernels_.max_blocks) {
    const int64_t count = std::min(kernels_.max_blocks, blocks - first);
    kernels_.spmm(panel, half.values.data(), x, stride, {first, count}, true, y, rows);
  }
}

void Graph::AddNeighbours(Side side, const float* x, int64_t stride, engine::RowRange rows,
                          float* y, int64_t first_row, int threads) const {
  const Half& of = half(side);
  const int32_t* begin = of.offsets.data() + first_row;
  if (threads == 1) {
    return Multiply(of, begin, begin + 1, x, stride, y,
                    {rows.begin - first_row, rows.end - first_row});
  }
  ParallelParts(threads, [&](int part) {
    Multiply(of, begin, begin + 1, x, stride, y, {of.part_begin[part], of.part_begin[part + 1]});
  });
}

void Graph::AddNeighboursOf(Side side, std::span<const int32_t> list, const float* x,
                            int64_t stride, float* y) const {
  const Half& of = half(side);
  std::vector<int32_t> begin;
  std::vector<int32_t> end;
  std::vector<int32_t> edges = {0};
  for (const int32_t node : list) {
    begin.push_back(of.offsets[node]);
    end.push_back(of.offsets[node + 1]);
    edges.push_back(edges.back() + end.back() - begin.back());
  }
  const std::vector<int64_t> bounds = engine::BalanceRows(edges, threads_);
  ParallelParts(threads_, [&](int part) {
    Multiply(of, begin.data(), end.data(), x, stride, y, {bounds[part], bounds[part + 1]});
  });
}

void Graph::AddToNeighbours(Side side, std::span<const int32_t> list, const float* x,
                            int64_t stride, float* y) const {
  const Half& of = half(side);
  const std::vector<int64_t>& bounds = half(Other(side)).part_begin;
  ParallelParts(threads_, [&](int part) {
    // Every thread owns a range of targets, which lie together in each list of neighbours.
    const auto low = static_cast<int32_t>(bounds[part]);
    const auto high = static_cast<int32_t>(bounds[part + 1]);
    for (size_t k = 0; k < list.size(); ++k) {
      const int32_t row_end = of.offsets[list[k] + 1];
      const auto first = std::lower_bound(of.columns.begin() + of.offsets[list[k]],
                                          of.columns.begin() + row_end, low);
      const float* from = x + static_cast<int64_t>(k) * stride;
      for (auto e = first - of.columns.begin(); e < row_end && of.columns[e] < high; ++e) {
        AddScaled(of.values[e], from, stride, y + of.columns[e] * stride);
      }
    }
  });
}

}  // namespace espalier::worker::recommender
