// static: a random sparse structure that stays as it is.
#include "server/methods/builtin.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

class StaticProgram : public TrainingProgram {
 public:
  StaticProgram(const v1::JobSpec& spec, Budget budget)
      : TrainingProgram(spec), budget_(std::move(budget)) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return RandomStructure(layout, budget_, seed());
  }

 private:
  Budget budget_;
};

}  // namespace

MethodDeclaration StaticMethod() {
  return {
      .name = "static",
      .summary = "A random sparse structure, trained as it is.",
      .source =
          "Mocanu et al., Nature Communications 9, 2018 (FixProb); Evci et al., ICML 2020 "
          "(Static)",
      .parameters = StructureParameters("erk"),
      .validate = ValidateBudget,
      .make =
          [](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<StaticProgram>(spec, BudgetOf(spec, parameters));
          },
      .stored_counts = StoredCountsOf,
  };
}

}  // namespace espalier::server::methods
