// AutoInt (Song et al. 2019): self-attention between the fields of an example.
//
// Fields:      item, the fields of the spec in their order, user. A field's embedding is the mean
//              of its values' rows; zero without a value.
// Layer:       for each head h: α_h(m, ·) = softmax over k of ⟨query_h(m), key_h(k)⟩; e'(m) =
//              ReLU([Σ_k α_h(m, k) value_h(k)]_h + residual(m)). No scaling by dimension, no layer
//              normalisation and no ReLU on projections: the paper's form, not its code's.
// Score:       wᵀ [e(m)]_m + b. Dropout on embeddings while training.
// Batch, loss: as NeuMF, see pairs.h.
// Memory:      activations of kChunk examples at a time; of the batch 4 bytes per example, field
//              and dimension for the gradients of embeddings.
#pragma once

#include <memory>

#include "absl/status/statusor.h"
#include "worker/recommender/recommender_model.h"

namespace espalier::worker::recommender {

// `spec` has its defaults filled in; `parts.fields` are those of `spec`. Errors: those of the
// engine's layers.
absl::StatusOr<std::unique_ptr<RecommenderModel>> MakeAutoInt(const v1::AutoIntModel& spec,
                                                              const ModelParts& parts);

}  // namespace espalier::worker::recommender
