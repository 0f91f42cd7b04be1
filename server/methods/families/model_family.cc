#include "server/methods/families/model_family.h"

#include <algorithm>

namespace espalier::server::methods {
namespace {

bool HasConvolution(const google::protobuf::RepeatedPtrField<v1::Layer>& layers) {
  return std::any_of(layers.begin(), layers.end(), [](const v1::Layer& layer) {
    return layer.has_conv2d() || HasConvolution(layer.residual().body()) ||
           HasConvolution(layer.residual().shortcut());
  });
}

// What a need is, as a user would call it.
const char* NeedWords(ModelNeed need) {
  switch (need) {
    case ModelNeed::kTraining:
      return "weights that are trained";
    case ModelNeed::kPruning:
      return "statistics of what its layers are given";
    case ModelNeed::kLayers:
      return "a list of layers, by which costs and initial values are told";
    case ModelNeed::kLoss:
      return "a loss in evaluation, by which models are compared";
    case ModelNeed::kCalibration:
      return "running statistics that are taken anew for each candidate";
    case ModelNeed::kSaliency:
      return "gradients of the loss at every weight of the dense model";
    case ModelNeed::kSynapticFlow:
      return "layers that an input of ones flows through";
    case ModelNeed::kImportance:
      return "squared gradients at all positions while it trains";
    case ModelNeed::kExactGrowth:
      return "gradients at positions that the coordinator names";
    case ModelNeed::kReadjustment:
      return "a structure that participants change while they train";
    case ModelNeed::kExtrusion:
      return "a penalty on marked weights while it trains";
  }
  return "";
}

bool Offers(ModelFamily family, ModelNeed need) {
  switch (family) {
    case ModelFamily::kMlp:
    case ModelFamily::kCnn:
      return true;
    case ModelFamily::kTransformer:
      return need != ModelNeed::kLayers && need != ModelNeed::kSynapticFlow;
    case ModelFamily::kLanguageModel:
      return need == ModelNeed::kPruning;
    default:
      return need == ModelNeed::kTraining;
  }
}

}  // namespace

const char* FamilyWord(ModelFamily family) {
  switch (family) {
    case ModelFamily::kMlp:
      return "mlp";
    case ModelFamily::kCnn:
      return "cnn";
    case ModelFamily::kTransformer:
      return "transformer";
    case ModelFamily::kLanguageModel:
      return "language-model";
    case ModelFamily::kLightGcn:
      return "lightgcn";
    case ModelFamily::kNeuMf:
      return "neumf";
    case ModelFamily::kMultVae:
      return "multvae";
    case ModelFamily::kAutoInt:
      return "autoint";
  }
  return "";
}

ModelFamily FamilyOf(const v1::ModelSpec& model) {
  if (model.has_transformer()) return ModelFamily::kTransformer;
  switch (model.recommender().kind_case()) {
    case v1::RecommenderSpec::kLightgcn:
      return ModelFamily::kLightGcn;
    case v1::RecommenderSpec::kNeumf:
      return ModelFamily::kNeuMf;
    case v1::RecommenderSpec::kMultvae:
      return ModelFamily::kMultVae;
    case v1::RecommenderSpec::kAutoint:
      return ModelFamily::kAutoInt;
    default:
      break;
  }
  if (!model.pretrained().empty() && model.layers().empty() && model.name().empty()) {
    return ModelFamily::kLanguageModel;
  }
  // All models that have a name are convolutional.
  return !model.name().empty() || HasConvolution(model.layers()) ? ModelFamily::kCnn
                                                                 : ModelFamily::kMlp;
}

bool IsRecommender(ModelFamily family) {
  return family == ModelFamily::kLightGcn || family == ModelFamily::kNeuMf ||
         family == ModelFamily::kMultVae || family == ModelFamily::kAutoInt;
}

std::string WhyNot(ModelFamily family, ModelNeed need) {
  if (Offers(family, need)) return "";
  return std::string("needs ") + NeedWords(need) + ", which the model family " +
         FamilyWord(family) + " does not offer";
}

}  // namespace espalier::server::methods
