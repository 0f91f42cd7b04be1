// echo: workers return the model as it is; measures rounds without training.
#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/methods/catalog/catalog.h"
#include "server/methods/parameters/params.h"
#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {
namespace {

class EchoProgram : public TrainingProgram {
 public:
  EchoProgram(const v1::JobSpec& spec, double density) : TrainingProgram(spec), density_(density) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override {
    return RandomStructure(layout, {.distribution = "uniform", .density = density_}, seed());
  }
  v1::Task MakeTask(const ProgramState&) const override {
    v1::Task task;
    task.mutable_echo();
    return task;
  }
  bool evaluates() const override { return false; }

 private:
  double density_;
};

void ValidateEcho(const v1::JobSpec& spec, const config::Parameters& parameters,
                  std::vector<config::Violation>& violations) {
  const auto layout = wire::LayoutOf(spec.model());
  if (!layout.ok()) return;
  const auto counts =
      StoredCounts(**layout, {.distribution = "uniform", .density = parameters.Double("density")});
  if (counts.ok()) return;
  violations.push_back({"method.parameters.density", base::MessageOf(counts.status())});
}

}  // namespace

MethodDeclaration EchoMethod(const Library&) {
  return {
      .name = "echo",
      .summary = "Measures rounds without training: workers return the model unchanged.",
      .source = "none; a benchmark",
      .parameters = {params::Density(1, "the same in every sparsifiable layer.")},
      .validate = ValidateEcho,
      .make =
          [](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<EchoProgram>(spec, parameters.Double("density"));
          },
  };
}

}  // namespace espalier::server::methods
