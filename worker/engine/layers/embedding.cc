#include "worker/engine/layers/embedding.h"

#include <algorithm>
#include <utility>

#include "common/base/status.h"
#include "fmt/format.h"
#include "worker/engine/activation.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {

absl::StatusOr<std::unique_ptr<Embedding>> Embedding::Create(const LayerSpec& spec,
                                                             const MapShape& input,
                                                             BuildContext& context) {
  if (spec.units < 1 || spec.vocabulary < 1 || input.features() != 1 ||
      context.embedding != nullptr) {
    return SpecError(fmt::format(
        "an embedding is the first layer, of at least one token and unit; found {} × {} on {} "
        "features",
        spec.vocabulary, spec.units, input.features()));
  }
  ESPALIER_RETURN_IF_ERROR(CheckNextTensor(context, spec.vocabulary, spec.units));
  const size_t tensor = context.next_tensor++;
  if (context.topology.is_sparse(tensor)) {
    return base::InvalidArgument("SHAPE_MISMATCH", "the weights of an embedding must be dense");
  }
  std::unique_ptr<Embedding> layer(new Embedding(spec, context.topology.offset(tensor), context));
  context.embedding = layer.get();
  return layer;
}

Embedding::Embedding(const LayerSpec& spec, int64_t offset, BuildContext& context)
    : Layer({.channels = spec.units}, context),
      vocabulary_(spec.vocabulary),
      offset_(offset),
      gradient_(spec.vocabulary * spec.units) {}

void Embedding::Forward(const Pass& pass, const float* input) {
  const int64_t units = shape().features();
  const float* weight = pass.values + offset_;
  float* y = mutable_output();
  ParallelRows(threads(), units, [&](RowRange rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      float* row = y + r * stride();
      for (int64_t c = 0; c < pass.extent.size; ++c) {
        row[c] = weight[static_cast<int64_t>(input[c]) * units + r];
      }
    }
  });
}

void Embedding::SetGradient(int64_t first, std::span<const float> gradient) {
  std::ranges::copy(gradient, gradient_.data() + first);
  gradient_begun_ = true;
}

void Embedding::Backward(const Pass& pass, const float* input, float* delta, float*,
                         const BackwardTarget& target) {
  if (!target.Wants(offset_)) return;
  const int64_t units = shape().features();
  float* gradient = gradient_.data();
  if (!gradient_begun_) std::fill_n(gradient, gradient_.size(), 0.0F);
  gradient_begun_ = false;
  ParallelRows(threads(), units, [&](RowRange rows) {
    for (int64_t c = 0; c < pass.extent.size; ++c) {
      float* row = gradient + static_cast<int64_t>(input[c]) * units;
      for (int64_t r = rows.begin; r < rows.end; ++r) row[r] += delta[r * stride() + c];
    }
  });
  target.gradients(offset_, gradient_.span());
}

absl::StatusOr<std::unique_ptr<LearnedPositions>> LearnedPositions::Create(const LayerSpec& spec,
                                                                           const MapShape& input,
                                                                           BuildContext& context) {
  if (spec.position_offset < 0 || spec.vocabulary < spec.position_offset + context.sequence) {
    return SpecError(
        fmt::format("expected sequences of at most {} places, as many as there are learned "
                    "positions, found {}",
                    spec.vocabulary - spec.position_offset, context.sequence));
  }
  ESPALIER_RETURN_IF_ERROR(CheckNextTensor(context, spec.vocabulary, input.features()));
  const size_t tensor = context.next_tensor++;
  if (context.topology.is_sparse(tensor)) {
    return base::InvalidArgument("SHAPE_MISMATCH", "learned positions must be dense");
  }
  return std::unique_ptr<LearnedPositions>(
      new LearnedPositions(spec, input, context.topology.offset(tensor), context));
}

LearnedPositions::LearnedPositions(const LayerSpec& spec, const MapShape& input, int64_t offset,
                                   BuildContext& context)
    : Layer(input, context),
      offset_(offset),
      first_row_(spec.position_offset),
      sequence_(context.sequence),
      gradient_(spec.vocabulary * input.features()) {}

void LearnedPositions::Forward(const Pass& pass, const float* input) {
  const int64_t units = shape().features();
  const float* weight = pass.values + offset_ + first_row_ * units;
  float* y = mutable_output();
  ParallelRows(threads(), units, [&](RowRange rows) {
    for (int64_t r = rows.begin; r < rows.end; ++r) {
      const int64_t row = r * stride();
      for (int64_t c = 0; c < pass.extent.size; ++c) {
        y[row + c] = input[row + c] + weight[c % sequence_ * units + r];
      }
    }
  });
}

void LearnedPositions::Backward(const Pass& pass, const float*, float* delta, float* input_delta,
                                const BackwardTarget& target) {
  const int64_t units = shape().features();
  if (input_delta != nullptr) {
    ParallelRows(threads(), units, [&](RowRange rows) {
      CopyRows(delta, input_delta, stride(), pass.extent.width, rows);
    });
  }
  if (!target.Wants(offset_)) return;
  std::fill_n(gradient_.data(), gradient_.size(), 0.0F);
  float* gradient = gradient_.data() + first_row_ * units;
  ParallelRows(threads(), units, [&](RowRange rows) {
    for (int64_t c = 0; c < pass.extent.size; ++c) {
      float* row = gradient + c % sequence_ * units;
      for (int64_t r = rows.begin; r < rows.end; ++r) row[r] += delta[r * stride() + c];
    }
  });
  target.gradients(offset_, gradient_.span());
}

absl::StatusOr<std::unique_ptr<TiedOutput>> TiedOutput::Create(const MapShape& input,
                                                               BuildContext& context) {
  Embedding* embedding = context.embedding;
  if (embedding == nullptr || embedding->shape().features() != input.features()) {
    return SpecError("a tied output needs an embedding as wide as its input");
  }
  std::unique_ptr<TiedOutput> layer(new TiedOutput(*embedding, context));
  const Extent largest = {context.max_batch, WholeLanes(context.max_batch)};
  ESPALIER_ASSIGN_OR_RETURN(
      layer->weight_, MakeDenseMatrix(context.backend, embedding->vocabulary(), input.features(),
                                      context.stride, true, largest));
  context.workspace.NeedScratch(layer->weight_->scratch());
  return layer;
}

void TiedOutput::Forward(const Pass& pass, const float* input) {
  weight_->Forward(pass.values + embedding_.weight_offset(), input, pass.extent, mutable_output());
}

void TiedOutput::Backward(const Pass& pass, const float* input, float* delta, float* input_delta,
                          const BackwardTarget& target) {
  if (input_delta != nullptr) {
    weight_->InputGradient(pass.values + embedding_.weight_offset(), delta, pass.extent,
                           input_delta, workspace().scratch());
  }
  if (!target.Wants(embedding_.weight_offset())) return;
  weight_->WeightGradient(delta, input, pass.extent, workspace().scratch(),
                          [&](int64_t first, std::span<const float> gradient) {
                            embedding_.SetGradient(first, gradient);
                          });
}

}  // namespace espalier::worker::engine
