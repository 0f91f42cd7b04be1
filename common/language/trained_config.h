// The configuration of a transformer that a training job describes: with it, the job's checkpoint
// is a language model, since its tensors have LLaMA's names.
#pragma once

#include <cstdint>

#include "common/language/transformer_config.h"
#include "espalier/v1/model.pb.h"

namespace espalier::language {

// `spec` with its defaults filled in; `context` is data.text.context, the longest text the model
// was trained on. The result's json is set.
TransformerConfig LlamaConfigOf(const v1::TransformerSpec& spec, int64_t context);

}  // namespace espalier::language
