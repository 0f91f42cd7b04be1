#include "server/methods/families/model_need.h"

namespace espalier::server::methods {
namespace {

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
    case ModelNeed::kTrainedStart:
      return "the weights of a trained model to begin with";
    case ModelNeed::kInputWeights:
      return "a first layer that weighs each input feature by itself";
  }
  return "";
}

}  // namespace

std::string WhyNot(const ModelFamily& family, ModelNeed need) {
  if (family.Offers(need)) return "";
  return std::string("needs ") + NeedWords(need) + ", which the model family " + family.word() +
         " does not offer";
}

}  // namespace espalier::server::methods
