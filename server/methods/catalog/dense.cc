// dense: federated averaging of a dense model (McMahan et al., AISTATS 2017), the baseline.
#include <memory>
#include <utility>
#include <vector>

#include "server/methods/catalog/catalog.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

class DenseProgram : public TrainingProgram {
 public:
  DenseProgram(const v1::JobSpec& spec, std::shared_ptr<const pretrained::ModelLibrary> library)
      : TrainingProgram(spec, std::move(library)) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return RandomStructure(layout, {.distribution = "uniform", .density = 1}, seed());
  }
};

}  // namespace

MethodDeclaration DenseMethod(const Library& library) {
  return {
      .name = "dense",
      .summary = "Federated averaging of a dense model: the baseline.",
      .source =
          "McMahan et al., Communication-efficient learning of deep networks from decentralized "
          "data, AISTATS 2017, algorithm 1",
      .parameters = {},
      .dense_capable_workers = true,
      .begins_trained = true,
      .keeps_structure = true,
      .validate = nullptr,
      .make =
          [library](const v1::JobSpec& spec, const config::Parameters&) {
            return std::make_unique<DenseProgram>(spec, library);
          },
  };
}

}  // namespace espalier::server::methods
