// The transformer of a ModelSpec: its configuration and its tensors, in the order in which they are
// computed and under Hugging Face's names, so that a trained model can be saved as one.
//
// Shapes:    matrices are outputs × inputs, also where Hugging Face's files have inputs × outputs.
// Threading: pure functions.
// Errors:    as model_spec.h; SHAPE_OUT_OF_RANGE for more than kMaxBlocks blocks, too; those of
//            language::ParseTransformerConfig() for a spec with config_json.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "common/language/architecture/transformer_config.h"
#include "common/wire/model_spec/model_spec.h"
#include "espalier/v1/model.pb.h"

namespace espalier::wire {

constexpr int32_t kMaxBlocks = 1000;

// `spec` with a number in place of every default; one with config_json stays as it is. Idempotent.
v1::TransformerSpec ExplicitTransformer(const v1::TransformerSpec& spec);

// What a spec describes; the result's json is set. Where it has fields instead of
// config_json, `context` is the most positions; defaults are filled in.
absl::StatusOr<language::TransformerConfig> ConfigOf(const v1::TransformerSpec& given,
                                                     int64_t context);

// The tensors of a model that is trained. Embedding, positions, output, norms and biases: dense;
// projections: sparsifiable, those of attention unless dense_attention.
absl::StatusOr<std::vector<ModelTensor>> TransformerTensors(const v1::TransformerSpec& given);

// What a model tells apart in each prediction: tokens of a transformer, units of the last linear
// layer. 0 for a model that is not valid.
int64_t ClassesOf(const v1::ModelSpec& spec);

}  // namespace espalier::wire
