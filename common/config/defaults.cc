#include "common/config/families/family_rules.h"
#include "common/config/validate.h"
#include "common/config/validate_aggregation.h"
#include "common/config/validate_model.h"
#include "common/config/validate_target.h"
#include "common/wire/model_spec/shapes.h"

namespace espalier::config {
namespace {

constexpr double kBatchNormMomentum = 0.1;
constexpr double kBatchNormEpsilon = 1e-5;

template <typename LayerOfKind>
void SetActivation(LayerOfKind& layer) {
  if (layer.activation() == v1::ACTIVATION_UNSPECIFIED) {
    layer.set_activation(v1::ACTIVATION_LINEAR);
  }
}

void ApplyWindow(const wire::Window& window, auto& layer) {
  layer.set_kernel(static_cast<int32_t>(window.kernel));
  layer.set_stride(static_cast<int32_t>(window.stride));
}

void ApplyConvDefaults(v1::Conv2dLayer& conv) {
  const wire::Window window = wire::WindowOf(conv);
  ApplyWindow(window, conv);
  conv.set_padding(static_cast<int32_t>(window.padding));
  SetActivation(conv);
  if (conv.initializer() == v1::INITIALIZER_UNSPECIFIED) {
    conv.set_initializer(v1::INITIALIZER_HE);
  }
}

void ApplyLinearDefaults(v1::LinearLayer& linear) {
  SetActivation(linear);
  if (linear.initializer() == v1::INITIALIZER_UNSPECIFIED) {
    linear.set_initializer(linear.activation() == v1::ACTIVATION_RELU ? v1::INITIALIZER_HE
                                                                      : v1::INITIALIZER_GLOROT);
  }
}

void ApplyBatchNormDefaults(v1::BatchNormLayer& norm) {
  SetActivation(norm);
  if (norm.momentum() == 0) norm.set_momentum(kBatchNormMomentum);
  if (norm.epsilon() == 0) norm.set_epsilon(kBatchNormEpsilon);
}

void ApplyLayerDefaults(v1::Layer& layer) {
  if (layer.has_linear()) ApplyLinearDefaults(*layer.mutable_linear());
  if (layer.has_conv2d()) ApplyConvDefaults(*layer.mutable_conv2d());
  if (layer.has_batch_norm()) ApplyBatchNormDefaults(*layer.mutable_batch_norm());
  if (layer.has_max_pool())
    ApplyWindow(wire::WindowOf(layer.max_pool()), *layer.mutable_max_pool());
  if (layer.has_avg_pool())
    ApplyWindow(wire::WindowOf(layer.avg_pool()), *layer.mutable_avg_pool());
  if (!layer.has_residual()) return;
  SetActivation(*layer.mutable_residual());
  ApplyLayersDefaults(*layer.mutable_residual()->mutable_body());
  ApplyLayersDefaults(*layer.mutable_residual()->mutable_shortcut());
}

void ApplyDataDefaults(v1::DataSpec& data) {
  constexpr double kAlpha = 0.5;
  constexpr int32_t kClassesPerShard = 2;
  v1::Partition& partition = *data.mutable_partition();
  if (partition.kind() == v1::Partition::KIND_UNSPECIFIED) {
    partition.set_kind(v1::Partition::KIND_IID);
  }
  if (partition.kind() == v1::Partition::KIND_DIRICHLET && partition.alpha() == 0) {
    partition.set_alpha(kAlpha);
  }
  if (partition.kind() == v1::Partition::KIND_CLASSES && partition.classes_per_shard() == 0) {
    partition.set_classes_per_shard(kClassesPerShard);
  }
  if (data.has_text()) {
    v1::TextData& text = *data.mutable_text();
    if (text.stride() == 0) text.set_stride(text.context());
    if (text.tokenizer().empty()) text.set_tokenizer("bytes");
    if (text.field().empty()) text.set_field("text");
  }
  if (data.scale() == 0) data.set_scale(1);
  if (data.std() == 0) data.set_std(1);
  if (data.label_column().empty()) data.set_label_column("-1");
}

void ApplyOptimizerDefaults(v1::Optimizer& optimizer) {
  constexpr double kBeta1 = 0.9;
  constexpr double kBeta2 = 0.999;
  constexpr double kEpsilon = 1e-8;
  if (optimizer.kind() == v1::Optimizer::KIND_UNSPECIFIED) {
    optimizer.set_kind(v1::Optimizer::KIND_SGD);
  }
  if (optimizer.across_rounds() == v1::Optimizer::ACROSS_ROUNDS_UNSPECIFIED) {
    optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_RESET);
  }
  if (optimizer.kind() != v1::Optimizer::KIND_ADAM) return;
  if (optimizer.beta1() == 0) optimizer.set_beta1(kBeta1);
  if (optimizer.beta2() == 0) optimizer.set_beta2(kBeta2);
  if (optimizer.epsilon() == 0) optimizer.set_epsilon(kEpsilon);
}

void ApplyTrainingDefaults(v1::Training& training) {
  constexpr int32_t kBatchSize = 32;
  constexpr double kStepFactor = 0.1;
  if (training.batch_size() == 0) training.set_batch_size(kBatchSize);
  if (training.local_epochs() == 0 && training.local_steps() == 0) training.set_local_epochs(1);
  ApplyOptimizerDefaults(*training.mutable_optimizer());
  v1::LearningRateSchedule& schedule = *training.mutable_schedule();
  if (schedule.kind() == v1::LearningRateSchedule::KIND_UNSPECIFIED) {
    schedule.set_kind(v1::LearningRateSchedule::KIND_CONSTANT);
  }
  if (schedule.kind() == v1::LearningRateSchedule::KIND_STEP && schedule.factor() == 0) {
    schedule.set_factor(kStepFactor);
  }
}

void ApplyFederationDefaults(v1::Federation& federation) {
  constexpr int64_t kRoundDeadlineSeconds = 600;
  constexpr int32_t kMaxExtensions = 3;
  constexpr int32_t kMaxRetries = 3;
  if (federation.quorum() == 0) federation.set_quorum(1);
  if (!federation.has_round_deadline()) {
    federation.mutable_round_deadline()->set_seconds(kRoundDeadlineSeconds);
  }
  if (federation.on_quorum_loss() == v1::Federation::QUORUM_POLICY_UNSPECIFIED) {
    federation.set_on_quorum_loss(v1::Federation::QUORUM_POLICY_EXTEND);
  }
  if (federation.max_extensions() == 0) federation.set_max_extensions(kMaxExtensions);
  if (!federation.has_min_workers()) federation.set_min_workers(1);
  if (!federation.has_max_retries()) federation.set_max_retries(kMaxRetries);
}

}  // namespace

void ApplyLayersDefaults(google::protobuf::RepeatedPtrField<v1::Layer>& layers) {
  for (v1::Layer& layer : layers) ApplyLayerDefaults(layer);
}

void ApplyDefaults(v1::JobSpec& spec) {
  constexpr int32_t kKeptCheckpoints = 3;
  ApplyTargetDefaults(spec, IsPruningMethod(spec.method().name()));
  const FamilyRules& rules = RulesOf(spec.model());
  rules.ApplyModelDefaults(*spec.mutable_model());
  rules.ApplyJobDefaults(spec);
  ApplyDataDefaults(*spec.mutable_data());
  spec.mutable_method();
  ApplyTrainingDefaults(*spec.mutable_training());
  ApplyFederationDefaults(*spec.mutable_federation());
  ApplyAggregationDefaults(*spec.mutable_aggregation());
  v1::Evaluation& evaluation = *spec.mutable_evaluation();
  if (evaluation.every_rounds() == 0) evaluation.set_every_rounds(1);
  if (!evaluation.federated() && !evaluation.central()) {
    // Of local data every site has a test part of its own, and nobody has all of them.
    const bool local = spec.data().partition().kind() == v1::Partition::KIND_LOCAL;
    evaluation.set_federated(local);
    evaluation.set_central(!local);
  }
  if (spec.checkpoint().keep() == 0) spec.mutable_checkpoint()->set_keep(kKeptCheckpoints);
  // Set by the coordinator to what there is to prune.
  if (IsPruningMethod(spec.method().name()) && spec.federation().rounds() == 0) {
    spec.mutable_federation()->set_rounds(1);
  }
  if (!spec.has_seed()) spec.set_seed(1);
}

}  // namespace espalier::config
