// The rules of recommenders.
#include <string>

#include "common/config/families/rules.h"
#include "common/config/validate_interactions.h"
#include "common/config/validate_model.h"
#include "common/config/validate_recommender.h"
#include "common/wire/model_spec/recommender_layout.h"

namespace espalier::config {
namespace {

class Recommender : public FamilyRules {
 public:
  void ValidateModel(const v1::ModelSpec& given, const v1::MethodSpec& method,
                     const Checker& at) const override {
    if (ValidateRecommender(given, at)) ValidateSize(given, method, "recommender", at);
  }
  void ValidateInteractions(const v1::JobSpec& spec, const Checker& root) const override {
    config::ValidateInteractions(spec, root);
  }
  TargetKind TargetOf(const v1::DataSpec&) const override { return TargetKind::kPair; }
  void ApplyModelDefaults(v1::ModelSpec& model) const override {
    *model.mutable_recommender() = wire::ExplicitRecommender(model.recommender());
  }
  void ApplyJobDefaults(v1::JobSpec& spec) const override;
  void AssumeSizes(v1::ModelSpec& model) const override;
};

void Recommender::ApplyJobDefaults(v1::JobSpec& spec) const {
  constexpr int32_t kTopK = 20;
  v1::DataSpec& data = *spec.mutable_data();
  data.mutable_interactions();
  if (data.partition().kind() == v1::Partition::KIND_UNSPECIFIED) {
    data.mutable_partition()->set_kind(v1::Partition::KIND_USERS);
  }
  v1::Evaluation& evaluation = *spec.mutable_evaluation();
  if (evaluation.top_k().empty()) evaluation.add_top_k(kTopK);
  if (evaluation.main_metric().empty()) {
    evaluation.set_main_metric("ndcg@" + std::to_string(evaluation.top_k(0)));
  }
  // Only the owners of private rows can evaluate them.
  if (spec.model().recommender().private_users() && !evaluation.central()) {
    evaluation.set_federated(true);
  }
}

void Recommender::AssumeSizes(v1::ModelSpec& model) const {
  constexpr int64_t kSome = 1000;
  if (model.recommender().users() == 0) model.mutable_recommender()->set_users(kSome);
  if (model.recommender().items() == 0) model.mutable_recommender()->set_items(kSome);
}

}  // namespace

const FamilyRules& RecommenderRules() {
  static const Recommender rules;
  return rules;
}

}  // namespace espalier::config
