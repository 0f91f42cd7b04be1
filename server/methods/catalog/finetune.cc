// finetune: a trained model, dense or pruned, trained further with the weights that it has.
#include <memory>
#include <utility>

#include "server/methods/catalog/catalog.h"
#include "server/methods/start/trained_start.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

class FinetuneProgram : public TrainingProgram {
 public:
  FinetuneProgram(const v1::JobSpec& spec, std::shared_ptr<const pretrained::ModelLibrary> library)
      : TrainingProgram(spec, std::move(library)) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return StoredStructure(spec(), layout, library());
  }
};

}  // namespace

MethodDeclaration FinetuneMethod(const Library& library) {
  return {
      .name = "finetune",
      .summary = "A trained model, dense or pruned, trained further with its mask kept.",
      .source =
          "Han et al., Learning both weights and connections for efficient neural networks, "
          "NeurIPS 2015, section 3 (retraining of what pruning left)",
      .parameters = {},
      .begins_trained = true,
      .needs_trained = true,
      .keeps_zeros = true,
      .keeps_structure = true,
      .needs = {ModelNeed::kTraining, ModelNeed::kTrainedStart},
      .validate = nullptr,
      .make =
          [library](const v1::JobSpec& spec, const config::Parameters&) {
            return std::make_unique<FinetuneProgram>(spec, library);
          },
      .stored_counts =
          [library](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return StartCounts(spec, parameters, library.get());
          },
  };
}

}  // namespace espalier::server::methods
