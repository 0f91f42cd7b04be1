// The families themselves, for model_family.cc: one of each.
//
// Threading: safe; they are made at their first use.
#pragma once

#include "common/wire/model_spec/families/model_family.h"
#include "espalier/v1/recommender.pb.h"

namespace espalier::wire {

// "mlp", or "cnn" of layers with convolutions.
const ModelFamily& LayersFamily(bool convolutional);
const ModelFamily& TransformerFamily();
// "language-model": model.pretrained alone.
const ModelFamily& LanguageModelFamily();
// A recommender that does not say its kind is one of no listed family, and has no tensors.
const ModelFamily& RecommenderFamily(v1::RecommenderSpec::KindCase kind);

}  // namespace espalier::wire
