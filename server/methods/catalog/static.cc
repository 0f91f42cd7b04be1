// static: a sparse structure that stays as it is: a random one, or that of a trained model.
#include <memory>
#include <utility>

#include "server/methods/catalog/catalog.h"
#include "server/methods/start/trained_start.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

class StaticProgram : public TrainingProgram {
 public:
  StaticProgram(const v1::JobSpec& spec, Budget budget,
                std::shared_ptr<const pretrained::ModelLibrary> library)
      : TrainingProgram(spec, std::move(library)), budget_(std::move(budget)) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return StartStructure(spec(), layout, budget_, library());
  }

 private:
  Budget budget_;
};

}  // namespace

MethodDeclaration StaticMethod(const Library& library) {
  return {
      .name = "static",
      .summary = "A sparse structure, random or of a trained model, trained as it is.",
      .source =
          "Mocanu et al., Nature Communications 9, 2018 (FixProb); Evci et al., ICML 2020 "
          "(Static)",
      .parameters = StructureParameters("erk"),
      .begins_trained = true,
      .keeps_zeros = true,
      .keeps_structure = true,
      .validate = ValidateBudget,
      .make =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<StaticProgram>(spec, BudgetOf(spec, parameters), library);
          },
      .stored_counts =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return StartCounts(spec, parameters, library.get());
          },
  };
}

}  // namespace espalier::server::methods
