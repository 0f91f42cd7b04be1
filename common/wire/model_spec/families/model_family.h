// ModelFamily: what kind of model a spec describes, and all that follows from the kind alone. Code
// that has to know asks the family, which is found once by FamilyOf(), and does not branch itself.
//
// Ownership:   families are constants of the program; references to them stay valid.
// Threading:   immutable; pure functions of their arguments.
// Determinism: equal specs give equal answers on every machine.
// Errors:      of Tensors(): those of model_spec.h; of CheckExample(): InvalidArgument
//              (INVALID_EXAMPLES).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/wire/model_spec/model_spec.h"
#include "espalier/v1/data.pb.h"
#include "espalier/v1/model.pb.h"
#include "espalier/v1/predict.pb.h"

namespace espalier::wire {

// What a method may need of a model beside an evaluation.
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
  kTrainedStart,  // the weights of a trained model to begin training with
  kInputWeights,  // a first layer that weighs each input feature by itself
};

// Which part of a ModelSpec describes a model of the family.
enum class ModelForm {
  kLayers,       // layers, or the name of a model
  kTransformer,  // transformer: whole in memory
  kRecommender,  // recommender
  kInParts,      // pretrained alone: a trained model that goes through memory block by block
};

// What an example takes beside the products of stored weights with one row of inputs each; FLOPs
// forwards, see cost.h.
struct ExampleCost {
  int64_t tokens = 1;        // rows of inputs
  double products = 0;       // of one example
  double pair_products = 0;  // for each token and token it attends to
  double graph = 0;          // of one step, for each interaction
  bool is_user = false;      // training draws users instead of their interactions
  // Of a recommender: what its tables have rows for.
  int64_t users = 0;
  int64_t items = 0;
};

class ModelFamily {
 public:
  ModelFamily(const ModelFamily&) = delete;
  ModelFamily& operator=(const ModelFamily&) = delete;
  virtual ~ModelFamily() = default;

  // "mlp", "cnn", "transformer", "language-model", "lightgcn", "neumf", "multvae", "autoint".
  const char* word() const { return word_; }
  ModelForm form() const { return form_; }
  virtual bool Offers(ModelNeed need) const = 0;
  // What a model of this family is to methods that train.
  virtual const ModelFamily& WhenTrained() const { return *this; }
  // Whether trained ones are read from folders in Hugging Face's layout, not from checkpoints
  // alone.
  virtual bool comes_in_folders() const { return false; }

  // TensorsOf() of a spec of this family.
  virtual absl::StatusOr<std::vector<ModelTensor>> Tensors(const v1::ModelSpec& spec) const = 0;
  virtual ExampleCost CostOf(const v1::ModelSpec& spec, const v1::DataSpec& data) const = 0;
  // Whether one example takes so much memory that evaluation must not put many side by side.
  virtual bool HasLargeExamples(const v1::ModelSpec& spec) const = 0;

  // What a model tells apart in each prediction; 0 where it tells nothing apart, and for a model
  // that is not valid.
  virtual int64_t Classes(const v1::ModelSpec& spec) const = 0;
  // Numbers that are predicted for one example.
  virtual int64_t Outputs(const v1::ModelSpec& spec) const { return Classes(spec); }
  // A name for each of them; empty where their places are their names.
  virtual std::vector<std::string> OutputNames(const v1::ModelSpec& spec,
                                               const v1::DataSpec& data) const = 0;
  // Whether the largest output is the answer.
  virtual bool LargestIsBest(const v1::DataSpec& data) const = 0;
  // What an example must be, where the model alone says it.
  virtual absl::Status CheckExample(const v1::Example& example) const = 0;

 protected:
  ModelFamily(const char* word, ModelForm form) : word_(word), form_(form) {}

 private:
  const char* word_;
  ModelForm form_;
};

// A spec without any kind of model counts as an "mlp".
const ModelFamily& FamilyOf(const v1::ModelSpec& spec);

// Each family once, in the order in which they are listed to people.
std::span<const ModelFamily* const> ModelFamilies();

}  // namespace espalier::wire
