// Embedding: the vector of each token; LearnedPositions: a vector for each place in a sequence,
// which is added to it; and TiedOutput: logits by the vectors of tokens.
//
// Shapes:  the input of Embedding is one feature, the token's number as a float, in [0,
//          vocabulary). Weight vocabulary × units, dense.
// Memory:  the gradient is dense, vocabulary × units floats: with a tied output every row has one
//          anyway.
#pragma once

#include <memory>
#include <span>

#include "worker/engine/layers/layer.h"

namespace espalier::worker::engine {

class Embedding final : public Layer {
 public:
  // Errors: NETWORK_SPEC, SHAPE_MISMATCH (also for a sparse weight).
  static absl::StatusOr<std::unique_ptr<Embedding>> Create(const LayerSpec& spec,
                                                           const MapShape& input,
                                                           BuildContext& context);

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  OutputUse input_use() const override { return OutputUse::kExact; }

  int64_t vocabulary() const { return vocabulary_; }
  int64_t weight_offset() const { return offset_; }
  // Of the output that is tied to this embedding, which is computed before this layer's own part is
  // added: entries from `first` on.
  void SetGradient(int64_t first, std::span<const float> gradient);

 private:
  Embedding(const LayerSpec& spec, int64_t offset, BuildContext& context);

  int64_t vocabulary_;
  int64_t offset_;
  bool gradient_begun_ = false;
  AlignedBuffer gradient_;
};

// y = x + the row of the column's place in its sequence, counted from spec.position_offset on.
// Weight vocabulary × units of the spec, dense. Rows that no place has keep a gradient of 0.
class LearnedPositions final : public Layer {
 public:
  // Errors: NETWORK_SPEC where sequences have more places than there are rows, SHAPE_MISMATCH (also
  // for a sparse weight).
  static absl::StatusOr<std::unique_ptr<LearnedPositions>> Create(const LayerSpec& spec,
                                                                  const MapShape& input,
                                                                  BuildContext& context);

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  OutputUse input_use() const override { return OutputUse::kNone; }

 private:
  LearnedPositions(const LayerSpec& spec, const MapShape& input, int64_t offset,
                   BuildContext& context);

  int64_t offset_;
  int64_t first_row_;
  int64_t sequence_;
  AlignedBuffer gradient_;
};

class TiedOutput final : public Layer {
 public:
  static absl::StatusOr<std::unique_ptr<TiedOutput>> Create(const MapShape& input,
                                                            BuildContext& context);

  void Forward(const Pass& pass, const float* input) override;
  void Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                const BackwardTarget& target) override;
  OutputUse input_use() const override { return OutputUse::kExact; }

 private:
  TiedOutput(Embedding& embedding, BuildContext& context)
      : Layer({.channels = embedding.vocabulary()}, context), embedding_(embedding) {}

  Embedding& embedding_;
  std::unique_ptr<WeightMatrix> weight_;
};

}  // namespace espalier::worker::engine
