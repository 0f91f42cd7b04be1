#include "common/wire/model_spec/layer_descriptor.h"
#include "worker/tasks/network/network_cache.h"

namespace espalier::worker::tasks {
namespace {

engine::Loss ToEngine(v1::Loss loss) {
  switch (loss) {
    case v1::LOSS_MEAN_SQUARED_ERROR:
      return engine::Loss::kMeanSquaredError;
    case v1::LOSS_MEAN_ABSOLUTE_ERROR:
      return engine::Loss::kMeanAbsoluteError;
    case v1::LOSS_HUBER:
      return engine::Loss::kHuber;
    case v1::LOSS_BINARY_CROSS_ENTROPY:
      return engine::Loss::kBinaryCrossEntropy;
    default:
      return engine::Loss::kCrossEntropy;
  }
}

}  // namespace

engine::NetworkSpec EngineSpec(const v1::ModelSpec& model) {
  engine::NetworkSpec spec;
  spec.input_features = model.input_features();
  spec.input_dropout = model.input_dropout();
  spec.input_noise = model.input_noise();
  spec.loss = ToEngine(model.loss());
  if (model.huber_delta() > 0) spec.loss_options.huber_delta = model.huber_delta();
  spec.dropout_scaling = model.dropout_scaling() == v1::DROPOUT_SCALING_EVALUATION
                             ? engine::DropoutScaling::kEvaluation
                             : engine::DropoutScaling::kTraining;
  spec.layers = wire::DescribeLayers(model.layers());
  if (model.has_input_image()) {
    spec.input_image = {model.input_image().channels(), model.input_image().height(),
                        model.input_image().width()};
  }
  return spec;
}

}  // namespace espalier::worker::tasks
