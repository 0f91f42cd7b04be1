#include "common/wire/model_spec/families/model_family.h"

#include <algorithm>
#include <array>

#include "common/wire/model_spec/families/families.h"

namespace espalier::wire {
namespace {

bool HasConvolution(const google::protobuf::RepeatedPtrField<v1::Layer>& layers) {
  return std::any_of(layers.begin(), layers.end(), [](const v1::Layer& layer) {
    return layer.has_conv2d() || HasConvolution(layer.residual().body()) ||
           HasConvolution(layer.residual().shortcut());
  });
}

}  // namespace

const ModelFamily& FamilyOf(const v1::ModelSpec& spec) {
  if (spec.has_recommender()) return RecommenderFamily(spec.recommender().kind_case());
  if (spec.has_transformer()) return TransformerFamily();
  if (!spec.pretrained().empty() && spec.layers().empty() && spec.name().empty()) {
    return LanguageModelFamily();
  }
  // All models that have a name are convolutional.
  return LayersFamily(!spec.name().empty() || HasConvolution(spec.layers()));
}

std::span<const ModelFamily* const> ModelFamilies() {
  using R = v1::RecommenderSpec;
  static const std::array families = {&LayersFamily(false),
                                      &LayersFamily(true),
                                      &TransformerFamily(),
                                      &LanguageModelFamily(),
                                      &RecommenderFamily(R::kLightgcn),
                                      &RecommenderFamily(R::kNeumf),
                                      &RecommenderFamily(R::kMultvae),
                                      &RecommenderFamily(R::kAutoint)};
  return families;
}

}  // namespace espalier::wire
