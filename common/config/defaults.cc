#include "common/config/families/family_rules.h"
#include "common/config/sections/validate_aggregation.h"
#include "common/config/validate.h"
#include "common/config/validate_model.h"
#include "common/config/validate_target.h"

namespace espalier::config {
namespace {

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
