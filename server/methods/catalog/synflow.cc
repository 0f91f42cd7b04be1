// synflow: iterative pruning that conserves synaptic flow (Tanaka et al., NeurIPS 2020).
#include "server/methods/catalog/catalog.h"
#include "server/methods/parameters/params.h"
#include "server/methods/saliency/pruned_at_start.h"

namespace espalier::server::methods {
namespace {

class SynFlowProgram : public PrunedAtStart {
 public:
  SynFlowProgram(const v1::JobSpec& spec, PrunedAtStartOptions options, int64_t iterations)
      : PrunedAtStart(spec, options), density_(options.density), iterations_(iterations) {}

 protected:
  Step ScoreStep() const override {
    Step step;
    v1::ScoreTask& task = *step.task.mutable_score();
    task.set_criterion(v1::ScoreTask::CRITERION_SYNFLOW);
    task.set_density(density_);
    task.set_iterations(static_cast<int32_t>(iterations_));
    step.participants = Participants::kAnyOne;
    step.reducer = reduce::ReducerKind::kMean;
    step.prelude = true;
    return step;
  }

 private:
  double density_;
  int64_t iterations_;
};

config::ParameterSchema SynFlowParameters() {
  return params::With(PrunedAtStartParameters(),
                      {params::Whole("iterations", 100, 1, 10'000,
                                     "Times that weights are scored and pruned; the density falls "
                                     "to its end as a geometric series.")});
}

}  // namespace

MethodDeclaration SynflowMethod(const Library&) {
  return {
      .name = "synflow",
      .summary =
          "SynFlow: keep the weights that carry most flow from input to output, without data.",
      .source =
          "Tanaka, Kunin, Yamins, Ganguli, Pruning neural networks without any data by "
          "iteratively conserving synaptic flow, NeurIPS 2020, arXiv 2006.05467",
      .parameters = SynFlowParameters(),
      .dense_capable_workers = true,
      .needs = {ModelNeed::kTraining, ModelNeed::kSynapticFlow},
      .validate = ValidatePrunedAtStart,
      .make =
          [](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<SynFlowProgram>(spec, PrunedAtStartOptionsOf(parameters),
                                                    parameters.Int("iterations"));
          },
      .demand = PrunedAtStartDemand,
      .bytes_per_position = 24,  // engine/synaptic_flow.h takes more, but while nothing is trained
  };
}

}  // namespace espalier::server::methods
