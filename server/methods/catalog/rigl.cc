// rigl: RigL (Evci et al., ICML 2020) over rounds, with growth candidates from the workers.
#include <memory>
#include <utility>

#include "server/methods/catalog/catalog.h"
#include "server/methods/gradient_growth.h"
#include "server/methods/growth/growing_program.h"
#include "server/methods/parameters/params.h"
#include "server/methods/start/trained_start.h"
#include "server/methods/structure.h"

namespace espalier::server::methods {
namespace {

struct RigLOptions {
  Budget budget;
  UpdateSchedule updates;
};

class RigLProgram : public GrowingProgram {
 public:
  RigLProgram(const v1::JobSpec& spec, RigLOptions options, const GrowthOptions& growth,
              std::shared_ptr<const pretrained::ModelLibrary> library)
      : GrowingProgram(spec, growth, std::move(library)), options_(std::move(options)) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return StartStructure(spec(), layout, options_.budget, library());
  }

  v1::PrivateUpdate PrivateRule(int32_t round) const override {
    v1::PrivateUpdate rule;
    rule.set_fraction(options_.updates.Fraction(round, rounds()));
    rule.set_batches(growth_batches());
    return rule;
  }

  std::vector<int64_t> UpdateCounts(const ProgramState& state) const override {
    return ReplacedCounts(*state.model.topology,
                          options_.updates.Fraction(RoundInWork(state), rounds()));
  }

 private:
  RigLOptions options_;
};

config::ParameterSchema RigLParameters() {
  return params::With(
      StructureParameters("erk"),
      {params::Share("alpha", 0.3,
                     "Share of each layer's weights that the first update replaces; it falls "
                     "with half a cosine."),
       params::UpdateEvery(1, "updates of the structure"),
       params::Above(params::Share("end_fraction", 0.75,
                                   "Share of all rounds after which the structure stays.")),
       params::CandidateSlack(2), params::GrowthBatches(),
       params::Switch("regrow", false,
                      "Whether a weight that is dropped competes by its gradient, as in the "
                      "paper; where it wins it stays as it is. Not with top_k: exact."),
       params::TopK()});
}

void ValidateRigL(const v1::JobSpec& spec, const config::Parameters& parameters,
                  std::vector<config::Violation>& violations) {
  ValidateBudget(spec, parameters, violations);
  if (parameters.Bool("regrow") && parameters.Choice("top_k") == "exact") {
    violations.push_back({"method.parameters.regrow",
                          "needs the gradients of weights, and top_k: exact asks for those of "
                          "inactive positions only; use top_k: lists, or remove regrow"});
  }
}

}  // namespace

MethodDeclaration RiglMethod(const Library& library) {
  return {
      .name = "rigl",
      .summary = "RigL: drop the smallest weights, grow where the gradient is largest.",
      .source = "Evci et al., Rigging the lottery: making all tickets winners, ICML 2020",
      .parameters = RigLParameters(),
      .begins_trained = true,
      .keeps_zeros = true,
      .validate = ValidateRigL,
      .make =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<RigLProgram>(
                spec,
                RigLOptions{.budget = BudgetOf(spec, parameters),
                            .updates = {.alpha = parameters.Double("alpha"),
                                        .update_every = parameters.Int("update_every"),
                                        .end_fraction = parameters.Double("end_fraction")}},
                GrowthOptions{.slack = parameters.Double("candidate_slack"),
                              .batches = parameters.Int("growth_batches"),
                              .exact = parameters.Choice("top_k") == "exact",
                              .regrow = parameters.Bool("regrow")},
                library);
          },
      .stored_counts =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return StartCounts(spec, parameters, library.get());
          },
      .demand =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            const bool exact = parameters.Choice("top_k") == "exact";
            return GrowthDemand(spec, StartCounts(spec, parameters, library.get()),
                                parameters.Double("alpha"),
                                exact ? kExactSlack : parameters.Double("candidate_slack"));
          },
      .needs_of_parameters = ExactGrowthNeeds,
  };
}

}  // namespace espalier::server::methods
