// Interactions of users with items.
#include <string>

#include "server/datasets/kinds/kinds.h"

namespace espalier::server::datasets {
namespace {

class Interactions : public DataKind {
 public:
  std::vector<config::Violation> Misfits(const v1::JobSpec& spec,
                                         const v1::DatasetInfo& info) const override;
  void FillIn(const v1::DatasetInfo& info, v1::JobSpec& spec,
              std::vector<config::Violation>&) const override {
    v1::RecommenderSpec& recommender = *spec.mutable_model()->mutable_recommender();
    if (recommender.users() == 0) recommender.set_users(info.users());
    if (recommender.items() == 0) recommender.set_items(info.items());
  }
  int64_t MostExamples(const v1::JobSpec&, const v1::Task& task,
                       const v1::DatasetInfo& info) const override {
    return task.has_evaluate() ? info.users() : info.train_examples() + info.test_examples();
  }
};

// Before any filter: they only leave users and items out, and local files hold a part each.
std::vector<config::Violation> Interactions::Misfits(const v1::JobSpec& spec,
                                                     const v1::DatasetInfo& info) const {
  std::vector<config::Violation> violations;
  if (info.features() > 0 && info.format() != "csv") {
    violations.push_back({"data.dataset", "expected interactions of users with items, found '" +
                                              info.name() + "' (" + info.format() +
                                              "); use another data set or a model of layers"});
    return violations;
  }
  const bool local = spec.data().partition().kind() == v1::Partition::KIND_LOCAL;
  // Read in another way than the worker did, the files may hold another number.
  const bool other_view = spec.data().header() != v1::DataSpec::HEADER_UNSPECIFIED ||
                          spec.data().delimiter() != v1::DataSpec::DELIMITER_UNSPECIFIED;
  if (info.interactions() == 0 || local || other_view) return violations;
  const v1::RecommenderSpec& model = spec.model().recommender();
  const v1::Interactions& how = spec.data().interactions();
  const bool filtered = how.min_rating() != 0 || how.user_core() > 1 || how.item_core() > 1;
  const auto check = [&](const char* field, int64_t wanted, int64_t found) {
    if (wanted == found || (filtered && wanted < found)) return;
    violations.push_back({std::string("model.recommender.") + field,
                          "expected " + std::to_string(found) + (filtered ? " or less" : "") +
                              ", as many as data set '" + info.name() + "' has, found " +
                              std::to_string(wanted)});
  };
  check("users", model.users(), info.users());
  check("items", model.items(), info.items());
  return violations;
}

}  // namespace

const DataKind& InteractionData() {
  static const Interactions kind;
  return kind;
}

}  // namespace espalier::server::datasets
