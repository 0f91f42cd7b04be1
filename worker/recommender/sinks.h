// What becomes of a step's gradients: they update the model, are kept, or nominate growth.
//
// Ownership: sinks borrow tensors, optimizers and results for one call of RecommenderModel.
// Threading: as RowSink says.
#pragma once

#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "common/sparsity/top_k.h"
#include "worker/engine/rows/row_bags.h"
#include "worker/recommender/row_parameters.h"

namespace espalier::worker::recommender {

// Rows × columns whose sums over several steps GrowthSink keeps for one tensor (16 MiB).
inline constexpr int64_t kMaxBufferedGradients = int64_t{1} << 22;

// Gives every gradient to the optimizer of its tensor.
class UpdateSink final : public RowSink {
 public:
  UpdateSink(std::span<RowOptimizer> optimizers, double learning_rate, int64_t step)
      : optimizers_(optimizers), learning_rate_(learning_rate), step_(step) {}
  void StoredOf(size_t tensor, int64_t first, int64_t count, const float* gradient) override {
    optimizers_[tensor].Update(first, count, gradient, learning_rate_, step_);
  }
  void Expect(size_t tensor, int64_t row) const override { optimizers_[tensor].Prefetch(row); }

 private:
  std::span<RowOptimizer> optimizers_;
  double learning_rate_;
  int64_t step_;
};

// Copies gradients of stored values, or adds their magnitudes; `gradients` has zeros for all
// tensors, one after the other.
class CollectSink final : public RowSink {
 public:
  CollectSink(std::span<const RowTensor> tensors, std::span<float> gradients,
              bool adds_magnitudes = false);
  void StoredOf(size_t tensor, int64_t first, int64_t count, const float* gradient) override;

 private:
  std::span<const RowTensor> tensors_;
  bool adds_magnitudes_;
  std::vector<float*> begin_;
};

// Finds the inactive positions of largest |gradient| of the sparse tensors with a count above 0. In
// one step; over several, of largest sum of |gradient|. `active`, unless empty, is for the stored
// values, as a CollectSink has it.
class GrowthSink final : public RowSink {
 public:
  GrowthSink(std::span<const RowTensor> tensors, std::span<const int64_t> counts, bool sums_steps,
             std::span<float> active);
  bool wants_all(size_t tensor) const override {
    return tensors_[tensor].is_sparse() && counts_[tensor] > 0;
  }
  void StoredOf(size_t tensor, int64_t first, int64_t count, const float* gradient) override;
  void AllOf(size_t tensor, int64_t row, const float* gradient) override;
  std::vector<sparsity::ScoredPositions> Take();

 private:
  void Offer(size_t tensor, int64_t row, const float* gradient);

  std::span<const RowTensor> tensors_;
  std::span<const int64_t> counts_;
  bool sums_steps_;
  std::optional<CollectSink> active_;
  std::vector<sparsity::TopK> top_;
  std::vector<std::unordered_map<int64_t, std::vector<float>>> sums_;  // by tensor, then row
};

// Hands the gradient of the rows `rows` of a tensor, in stored order, to `sink`; they begin with a
// multiple of kRowsPerGroup. `gradient` begins with that of the first of them.
void EmitRows(RowSink& sink, size_t index, const RowTensor& tensor, engine::RowRange rows,
              const float* gradient, int threads);

// Hands the gradients of the rows that examples name to `sink`; `of_examples` [examples][columns].
void EmitUses(RowSink& sink, size_t index, const RowTensor& table,
              const engine::RowBags::Uses& uses, const float* of_examples);

}  // namespace espalier::worker::recommender
