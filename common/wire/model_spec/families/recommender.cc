// Recommenders: what they have in common, and what training an example of each kind costs.
#include "common/base/status.h"
#include "common/wire/model_spec/families/families.h"
#include "common/wire/model_spec/recommender_layout.h"

namespace espalier::wire {
namespace {

constexpr double kFlopsPerProduct = 2;

class Recommender : public ModelFamily {
 public:
  explicit Recommender(const char* word) : ModelFamily(word, ModelForm::kRecommender) {}

  bool Offers(ModelNeed need) const override { return need == ModelNeed::kTraining; }
  absl::StatusOr<std::vector<ModelTensor>> Tensors(const v1::ModelSpec& spec) const override {
    return RecommenderTensors(spec.recommender());
  }
  ExampleCost CostOf(const v1::ModelSpec& spec, const v1::DataSpec&) const override {
    const v1::RecommenderSpec model = ExplicitRecommender(spec.recommender());
    ExampleCost cost;
    cost.users = model.users();
    cost.items = model.items();
    AddCost(model, cost);
    return cost;
  }
  bool HasLargeExamples(const v1::ModelSpec&) const override { return false; }

  int64_t Classes(const v1::ModelSpec&) const override { return 0; }
  int64_t Outputs(const v1::ModelSpec&) const override { return 1; }
  std::vector<std::string> OutputNames(const v1::ModelSpec&, const v1::DataSpec&) const override {
    return {"score"};
  }
  bool LargestIsBest(const v1::DataSpec&) const override { return false; }
  absl::Status CheckExample(const v1::Example& example) const override {
    if (!example.user().empty() && !example.item().empty()) return absl::OkStatus();
    return base::InvalidArgument("INVALID_EXAMPLES",
                                 "expected a user and an item in each example for a recommender; "
                                 "set both, or ask Recommend for the best items");
  }

 private:
  // Beside the products with weights.
  virtual void AddCost(const v1::RecommenderSpec& model, ExampleCost& cost) const = 0;
};

class LightGcn : public Recommender {
 public:
  LightGcn() : Recommender("lightgcn") {}

 private:
  void AddCost(const v1::RecommenderSpec& model, ExampleCost& cost) const override {
    const v1::LightGcnModel& lightgcn = model.lightgcn();
    cost.products = 2 * kFlopsPerProduct * lightgcn.dimensions();
    cost.graph = 2 * kFlopsPerProduct * lightgcn.dimensions() * lightgcn.layers();
  }
};

class MultVae : public Recommender {
 public:
  MultVae() : Recommender("multvae") {}

 private:
  void AddCost(const v1::RecommenderSpec&, ExampleCost& cost) const override {
    cost.is_user = true;
  }
};

class AutoInt : public Recommender {
 public:
  AutoInt() : Recommender("autoint") {}

 private:
  void AddCost(const v1::RecommenderSpec& model, ExampleCost& cost) const override {
    const v1::AutoIntModel& autoint = model.autoint();
    const double fields = autoint.fields_size() + 2;
    cost.products = (1.0 + autoint.negatives()) * autoint.layers() * 2 * kFlopsPerProduct * fields *
                    fields * autoint.units();
  }
};

// All products are with weights.
class OnlyWeights : public Recommender {
 public:
  using Recommender::Recommender;

 private:
  void AddCost(const v1::RecommenderSpec&, ExampleCost&) const override {}
};

}  // namespace

const ModelFamily& RecommenderFamily(v1::RecommenderSpec::KindCase kind) {
  static const LightGcn lightgcn;
  static const OnlyWeights neumf("neumf");
  static const MultVae multvae;
  static const AutoInt autoint;
  static const OnlyWeights unknown("recommender");
  switch (kind) {
    case v1::RecommenderSpec::kLightgcn:
      return lightgcn;
    case v1::RecommenderSpec::kNeumf:
      return neumf;
    case v1::RecommenderSpec::kMultvae:
      return multvae;
    case v1::RecommenderSpec::kAutoint:
      return autoint;
    case v1::RecommenderSpec::KIND_NOT_SET:
      break;
  }
  return unknown;
}

}  // namespace espalier::wire
