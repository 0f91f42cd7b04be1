// Graph: the normalised bipartite graph of users and items, and products with it.
//
// Shapes:      R = users × items with entries 1/√(degree of user · degree of item); matrices are
//              row-major [nodes][stride], a row for each user or item, stride a multiple of 16.
// Memory:      8 bytes per interaction for each direction.
// Threading:   one caller at a time; products use `threads` OpenMP threads.
// Determinism: every row is summed in the order of its neighbours: the same bits for any number of
//              threads.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "worker/engine/kernels/kernels.h"
#include "worker/recommender/interactions.h"

namespace espalier::worker::recommender {

enum class Side { kUsers, kItems };
inline Side Other(Side side) { return side == Side::kUsers ? Side::kItems : Side::kUsers; }

class Graph {
 public:
  Graph(const Interactions& train, int threads);

  int64_t nodes(Side side) const { return static_cast<int64_t>(half(side).offsets.size()) - 1; }

  // y[n] += Σ over neighbours m of node n (of `side`): entry · x[m].
  void AddNeighbours(Side side, const float* x, int64_t stride, float* y) const {
    AddNeighbours(side, x, stride, {0, nodes(side)}, y, 0, threads_);
  }
  // The same for the nodes [rows.begin, rows.end) on the calling thread; y begins with the first.
  void AddNeighboursOf(Side side, engine::RowRange rows, const float* x, int64_t stride,
                       float* y) const {
    AddNeighbours(side, x, stride, rows, y, rows.begin, 1);
  }
  // The same for the nodes in `list`; y has a row for each.
  void AddNeighboursOf(Side side, std::span<const int32_t> list, const float* x, int64_t stride,
                       float* y) const;
  // y[m] += entry · x[k] for every neighbour m of node list[k] of `side`: the transpose of the
  // product above. `list` ascends.
  void AddToNeighbours(Side side, std::span<const int32_t> list, const float* x, int64_t stride,
                       float* y) const;

 private:
  // Neighbours of the nodes of one side.
  struct Half {
    std::vector<int32_t> offsets;
    std::vector<int32_t> columns;
    std::vector<float> values;
    std::vector<int64_t> part_begin;  // threads + 1 bounds with near-equal numbers of edges
  };
  const Half& half(Side side) const { return side == Side::kUsers ? users_ : items_; }
  void AddNeighbours(Side side, const float* x, int64_t stride, engine::RowRange rows, float* y,
                     int64_t first_row, int threads) const;
  void Multiply(const Half& half, const int32_t* begin, const int32_t* end, const float* x,
                int64_t stride, float* y, engine::RowRange rows) const;

  int threads_;
  const engine::KernelTable& kernels_;
  Half users_;
  Half items_;
};

}  // namespace espalier::worker::recommender
