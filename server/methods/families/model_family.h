// Families of models, what each offers beyond training and evaluation, and what a method may need
// of it. A method that needs something is refused on a family that does not offer it, with the
// reason, when the job is created.
//
// Threading: pure functions.
#pragma once

#include <array>
#include <string>

#include "espalier/v1/model.pb.h"

namespace espalier::server::methods {

enum class ModelFamily {
  kMlp,            // layers, none of them a convolution
  kCnn,            // layers with convolutions
  kTransformer,    // model.transformer, which is whole in memory
  kLanguageModel,  // model.pretrained alone: in parts, never whole in memory, while it is pruned
  kLightGcn,
  kNeuMf,
  kMultVae,
  kAutoInt,
};
inline constexpr std::array kModelFamilies = {
    ModelFamily::kMlp,           ModelFamily::kCnn,      ModelFamily::kTransformer,
    ModelFamily::kLanguageModel, ModelFamily::kLightGcn, ModelFamily::kNeuMf,
    ModelFamily::kMultVae,       ModelFamily::kAutoInt};

enum class ModelNeed {
  kTraining,      // weights that local steps change
  kPruning,       // statistics of what layers are given, for pruning without training
  kLayers,        // layers by which costs and initial values are told
  kLoss,          // an evaluation that reports the loss, by which candidates are compared
  kCalibration,   // running statistics that can be taken anew
  kSaliency,      // the gradient of the loss at every weight of the dense model
  kSynapticFlow,  // absolute weights that an input of ones flows through
  kImportance,    // squared gradients at all positions while training
  kExactGrowth,   // gradients at named inactive positions (GrowthTask)
  kReadjustment,  // a structure that participants change while they train
  kExtrusion,     // a penalty on marked weights while training
};

// "mlp", "cnn", "transformer", "language-model", "lightgcn", "neumf", "multvae", "autoint".
const char* FamilyWord(ModelFamily family);
// A model without any kind counts as kMlp.
ModelFamily FamilyOf(const v1::ModelSpec& model);
bool IsRecommender(ModelFamily family);

// Why the family does not offer it, as a part of a sentence; "" when it does.
std::string WhyNot(ModelFamily family, ModelNeed need);

}  // namespace espalier::server::methods
