// dense: federated averaging of a dense model (McMahan et al., AISTATS 2017), the baseline.
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "server/methods/builtin.h"
#include "server/methods/start/dense_source.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

class DenseProgram : public TrainingProgram {
 public:
  DenseProgram(const v1::JobSpec& spec, std::shared_ptr<const pretrained::ModelLibrary> library)
      : TrainingProgram(spec), library_(std::move(library)) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return RandomStructure(layout, {.distribution = "uniform", .density = 1}, seed());
  }

  absl::StatusOr<std::vector<float>> FirstValues(
      const tensor::ModelTopology& topology) const override {
    // Initial values of a recommender or transformer are TrainingProgram's affair.
    if (spec().model().pretrained().empty()) return TrainingProgram::FirstValues(topology);
    ESPALIER_ASSIGN_OR_RETURN(const auto dense,
                              OpenDenseSource(spec().model(), seed(), library_.get()));
    std::vector<float> values;
    values.reserve(topology.total_stored());
    for (size_t i = 0; i < topology.num_tensors(); ++i) {
      ESPALIER_RETURN_IF_ERROR(dense->Read(i, [&](std::span<const float> piece) {
        values.insert(values.end(), piece.begin(), piece.end());
      }));
    }
    return values;
  }

 private:
  std::shared_ptr<const pretrained::ModelLibrary> library_;
};

}  // namespace

MethodDeclaration DenseMethod(std::shared_ptr<const pretrained::ModelLibrary> library) {
  return {
      .name = "dense",
      .summary = "Federated averaging of a dense model: the baseline.",
      .source =
          "McMahan et al., Communication-efficient learning of deep networks from decentralized "
          "data, AISTATS 2017, algorithm 1",
      .parameters = {},
      .dense_capable_workers = true,
      .begins_trained = true,
      .validate = nullptr,
      .make =
          [library = std::move(library)](const v1::JobSpec& spec, const config::Parameters&) {
            return std::make_unique<DenseProgram>(spec, library);
          },
  };
}

}  // namespace espalier::server::methods
