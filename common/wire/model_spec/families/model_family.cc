#include "common/wire/model_spec/families/model_family.h"

#include <array>

#include "common/wire/model_spec/families/families.h"
#include "common/wire/model_spec/layer_descriptor.h"

namespace espalier::wire {

const ModelFamily& FamilyOf(const v1::ModelSpec& spec) {
  if (spec.has_recommender()) return RecommenderFamily(spec.recommender().kind_case());
  if (spec.has_transformer()) return TransformerFamily();
  if (!spec.pretrained().empty() && spec.layers().empty() && spec.name().empty()) {
    return LanguageModelFamily();
  }
  // All models that have a name are convolutional.
  return LayersFamily(!spec.name().empty() || AnyLayer(spec.layers(), &v1::Layer::has_conv2d));
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
