// The rules of each form of a model, for family_rules.cc: one of each.
//
// Threading: safe; they are made at their first use.
#pragma once

#include "common/config/families/family_rules.h"

namespace espalier::config {

inline constexpr int32_t kMaxCropPadding = 100'000;  // of images whose size is not known

// Of models that are one network: loss and dropout.
void ApplyNetworkDefaults(v1::ModelSpec& model);

const FamilyRules& LayersRules();
const FamilyRules& TransformerRules();
const FamilyRules& RecommenderRules();
// Of a model that is left to the trained one it begins with, which only the coordinator can look
// up.
const FamilyRules& PretrainedRules();

}  // namespace espalier::config
