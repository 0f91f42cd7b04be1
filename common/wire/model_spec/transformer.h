// The transformer of a ModelSpec: its tensors, in the order in which they are computed and under
// the names and shapes of Hugging Face's LLaMA, so that a trained model can be saved as one.
//
// Threading: pure functions. Errors: as model_spec.h; SHAPE_OUT_OF_RANGE for more than kMaxBlocks
// blocks, too.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/wire/model_spec/model_spec.h"
#include "espalier/v1/model.pb.h"

namespace espalier::wire {

constexpr int32_t kMaxBlocks = 1000;

// `spec` with a number in place of every default. Idempotent.
v1::TransformerSpec ExplicitTransformer(const v1::TransformerSpec& spec);

// Defaults are filled in. Embedding and output, norms: dense; projections: sparsifiable, those of
// attention unless dense_attention.
absl::StatusOr<std::vector<ModelTensor>> TransformerTensors(const v1::TransformerSpec& given);

// What a model tells apart in each prediction: tokens of a transformer, units of the last linear
// layer.
int64_t ClassesOf(const v1::ModelSpec& spec);

}  // namespace espalier::wire
