// snip: single-shot network pruning by connection sensitivity (Lee et al., ICLR 2019).
#include "server/methods/catalog/catalog.h"
#include "server/methods/parameters/params.h"
#include "server/methods/saliency/pruned_at_start.h"

namespace espalier::server::methods {
namespace {

class SnipProgram : public PrunedAtStart {
 public:
  SnipProgram(const v1::JobSpec& spec, PrunedAtStartOptions options, int64_t batches, bool one)
      : PrunedAtStart(spec, options), batches_(batches), one_(one) {}

 protected:
  Step ScoreStep() const override {
    Step step;
    v1::ScoreTask& task = *step.task.mutable_score();
    task.set_criterion(v1::ScoreTask::CRITERION_SNIP);
    task.set_batch_size(spec().training().batch_size());
    task.set_batches(static_cast<int32_t>(batches_));
    step.participants = one_ ? Participants::kAnyOne : Participants::kAll;
    step.reducer = reduce::ReducerKind::kMean;
    step.prelude = true;
    return step;
  }

  // Scores of layers are comparable only when variance passes through all of them alike.
  v1::ModelSpec DenseSpec() const override {
    v1::ModelSpec model = spec().model();
    UseGlorot(*model.mutable_layers());
    return model;
  }

 private:
  static void UseGlorot(google::protobuf::RepeatedPtrField<v1::Layer>& layers) {
    for (v1::Layer& layer : layers) {
      if (layer.has_linear()) layer.mutable_linear()->set_initializer(v1::INITIALIZER_GLOROT);
      if (layer.has_conv2d()) layer.mutable_conv2d()->set_initializer(v1::INITIALIZER_GLOROT);
      if (!layer.has_residual()) continue;
      UseGlorot(*layer.mutable_residual()->mutable_body());
      UseGlorot(*layer.mutable_residual()->mutable_shortcut());
    }
  }

  int64_t batches_;
  bool one_;
};

config::ParameterSchema SnipParameters() {
  return params::With(
      PrunedAtStartParameters(),
      {params::Word("scored_by", "all", {"all", "one"},
                    "Whose gradients score: all participants', averaged by their examples, "
                    "or those of one, the first shard."),
       params::Whole("batches", 1, 1, 10'000,
                     "Minibatches of each participant over which the gradient is averaged; "
                     "fewer where its examples do not suffice.")});
}

}  // namespace

MethodDeclaration SnipMethod(const Library&) {
  return {
      .name = "snip",
      .summary = "SNIP: keep the weights whose loss would change most, by one look at the data.",
      .source =
          "Lee, Ajanthan, Torr, SNIP: single-shot network pruning based on connection "
          "sensitivity, ICLR 2019, arXiv 1810.02340",
      .parameters = SnipParameters(),
      .dense_capable_workers = true,
      .needs = {ModelNeed::kTraining, ModelNeed::kSaliency},
      .validate = ValidatePrunedAtStart,
      .make =
          [](const v1::JobSpec& spec, const config::Parameters& parameters) {
            return std::make_unique<SnipProgram>(spec, PrunedAtStartOptionsOf(parameters),
                                                 parameters.Int("batches"),
                                                 parameters.Choice("scored_by") == "one");
          },
      .demand = PrunedAtStartDemand,
      .bytes_per_position = 12,  // gradient, its mean, and the scores that are sent
  };
}

}  // namespace espalier::server::methods
