#include "common/config/sections/validate_aggregation.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "fmt/format.h"

namespace espalier::config {
namespace {

using A = v1::Aggregation;

bool IsKrum(const A& aggregation) {
  return aggregation.rule() == A::RULE_KRUM || aggregation.rule() == A::RULE_MULTI_KRUM;
}

bool IsRobust(const A& aggregation) {
  return IsKrum(aggregation) || aggregation.rule() == A::RULE_MEDIAN ||
         aggregation.rule() == A::RULE_TRIMMED_MEAN;
}

bool IsLocal(const v1::JobSpec& spec) {
  return spec.data().partition().kind() == v1::Partition::KIND_LOCAL;
}

// Updates that a round is sure to have when it closes.
int64_t SureUpdates(const v1::JobSpec& spec) {
  const v1::Federation& federation = spec.federation();
  int64_t participants =
      IsLocal(spec) ? std::max(1, federation.min_workers()) : spec.data().partition().shards();
  if (federation.cohort_size() > 0) {
    participants = std::min<int64_t>(participants, federation.cohort_size());
  }
  const double quorum = federation.quorum() == 0 ? 1.0 : federation.quorum();
  if (!(quorum > 0 && quorum <= 1)) return participants;
  return static_cast<int64_t>(std::ceil(quorum * static_cast<double>(participants) - 1e-9));
}

void ValidateKrum(const v1::JobSpec& spec, const Checker& at) {
  const A& aggregation = spec.aggregation();
  const int64_t byzantine = aggregation.byzantine();
  if (byzantine < 0) {
    return at.Fail("byzantine", fmt::format("must be 0 or more, found {}", byzantine));
  }
  const int64_t sure = SureUpdates(spec);
  at.Check(sure >= 2 * byzantine + 3, "byzantine",
           fmt::format("Krum needs 2 · byzantine + 3 = {} updates in every round, found {} ({}); "
                       "{}, or lower byzantine",
                       Grouped(2 * byzantine + 3), Grouped(sure),
                       IsLocal(spec) ? "federation.min_workers or cohort_size, times quorum"
                                     : "shards or federation.cohort_size, times quorum",
                       IsLocal(spec) ? "raise federation.min_workers"
                                     : "raise data.partition.shards, cohort_size or quorum"));
  at.Check(spec.federation().on_quorum_loss() != v1::Federation::QUORUM_POLICY_PROCEED, "rule",
           "Krum cannot do with fewer updates than a quorum: set federation.on_quorum_loss to "
           "extend or fail");
  if (aggregation.selected() == 0) return;
  at.Whole("selected", aggregation.selected(), 1, std::max<int64_t>(1, sure - byzantine));
}

void ValidateRule(const v1::JobSpec& spec, const Checker& at) {
  const A& aggregation = spec.aggregation();
  if (!at.Enum("rule", A::Rule_IsValid(aggregation.rule()), aggregation.rule())) return;
  const double trim = aggregation.trim_fraction();
  at.Number("trim_fraction", trim, trim >= 0 && trim < 0.5, "0 < x < 0.5");
  at.Check(trim == 0 || aggregation.rule() == A::RULE_TRIMMED_MEAN, "trim_fraction",
           "applies to rule: trimmed_mean only; remove it");
  if (IsKrum(aggregation)) {
    ValidateKrum(spec, at);
  } else {
    at.Check(aggregation.byzantine() == 0, "byzantine",
             "applies to rules krum and multi_krum only; remove it");
  }
  at.Check(aggregation.selected() == 0 || aggregation.rule() == A::RULE_MULTI_KRUM, "selected",
           "applies to rule: multi_krum only; remove it");
  const double clip = aggregation.clip_norm();
  at.Number("clip_norm", clip, clip >= 0, "x > 0, or 0 for none");
  at.Check(!aggregation.pooled_variance() || !IsRobust(aggregation), "pooled_variance",
           "is a mean of squares: use rule: mean, or remove it");
  at.Check(!aggregation.pooled_variance() || clip == 0, "pooled_variance",
           "does not go with clip_norm, which would scale the squares: remove one of them");
  at.Check(clip == 0 ||
               spec.training().optimizer().across_rounds() != v1::Optimizer::ACROSS_ROUNDS_AVERAGE,
           "clip_norm",
           "bounds weights, not the optimizer state that crosses rounds beside them: set "
           "training.optimizer.across_rounds to reset, or remove clip_norm");
}

void ValidateServerOptimizer(const A& aggregation, const Checker& at) {
  if (!at.Enum("server_optimizer", A::ServerOptimizer_IsValid(aggregation.server_optimizer()),
               aggregation.server_optimizer())) {
    return;
  }
  const auto kind = aggregation.server_optimizer();
  const bool momentum = kind == A::SERVER_OPTIMIZER_MOMENTUM;
  const bool adaptive = kind == A::SERVER_OPTIMIZER_ADAM || kind == A::SERVER_OPTIMIZER_YOGI;
  const double rate = aggregation.server_learning_rate();
  at.Number("server_learning_rate", rate, rate >= 0, "x > 0");
  at.Check(rate == 0 || momentum || adaptive, "server_learning_rate",
           "needs a server_optimizer: momentum, adam or yogi; set one, or remove it");
  if (aggregation.has_server_momentum()) {
    at.Probability("server_momentum", aggregation.server_momentum());
    at.Check(momentum, "server_momentum", "applies to server_optimizer: momentum only; remove it");
  }
  at.Probability("server_beta1", aggregation.server_beta1());
  at.Probability("server_beta2", aggregation.server_beta2());
  at.Number("server_tau", aggregation.server_tau(), aggregation.server_tau() >= 0, "x > 0");
  const auto adaptive_only = [&](const char* field, double value) {
    at.Check(value == 0 || adaptive, field,
             "applies to server_optimizer: adam and yogi only; remove it");
  };
  adaptive_only("server_beta1", aggregation.server_beta1());
  adaptive_only("server_beta2", aggregation.server_beta2());
  adaptive_only("server_tau", aggregation.server_tau());
}

void ValidateControlVariates(const v1::JobSpec& spec, const Checker& at) {
  constexpr const char* kField = "control_variates";
  if (!spec.training().control_variates()) return;
  const v1::Optimizer& optimizer = spec.training().optimizer();
  at.Check(optimizer.kind() != v1::Optimizer::KIND_ADAM && optimizer.momentum() == 0, kField,
           "are differences of plain gradients: use optimizer.kind: sgd without momentum");
  at.Check(!optimizer.decoupled_weight_decay(), kField,
           "would take decoupled weight decay for a gradient: remove "
           "optimizer.decoupled_weight_decay");
  at.Check(spec.training().proximal_mu() == 0, kField,
           "and proximal_mu are two remedies for the same drift: remove one of them");
  at.Check(!IsLocal(spec), kField,
           "need a number of participants that is known beforehand: divide the data into shards "
           "instead of partition.kind: local");
  at.Check(!IsRobust(spec.aggregation()) && spec.aggregation().clip_norm() == 0, kField,
           "follow whatever a participant sends, so that neither robust rules nor clip_norm would "
           "protect the job: use aggregation.rule: mean without clip_norm, or remove them");
}

}  // namespace

void ValidateAggregation(const v1::JobSpec& spec, const Checker& at) {
  const double mu = spec.training().proximal_mu();
  at.In("training").Number("proximal_mu", mu, mu >= 0, "x ≥ 0");
  ValidateControlVariates(spec, at.In("training"));
  ValidateRule(spec, at.In("aggregation"));
  ValidateServerOptimizer(spec.aggregation(), at.In("aggregation"));
}

void ApplyAggregationDefaults(v1::Aggregation& aggregation) {
  constexpr double kTrimFraction = 0.1;
  constexpr double kMomentumRate = 1;
  constexpr double kMomentum = 0.9;
  constexpr double kAdaptiveRate = 0.01;
  constexpr double kBeta1 = 0.9;
  constexpr double kBeta2 = 0.99;
  constexpr double kTau = 1e-3;
  if (aggregation.rule() == A::RULE_UNSPECIFIED) aggregation.set_rule(A::RULE_MEAN);
  if (aggregation.server_optimizer() == A::SERVER_OPTIMIZER_UNSPECIFIED) {
    aggregation.set_server_optimizer(A::SERVER_OPTIMIZER_NONE);
  }
  if (aggregation.rule() == A::RULE_TRIMMED_MEAN && aggregation.trim_fraction() == 0) {
    aggregation.set_trim_fraction(kTrimFraction);
  }
  if (aggregation.server_optimizer() == A::SERVER_OPTIMIZER_NONE) return;
  const bool momentum = aggregation.server_optimizer() == A::SERVER_OPTIMIZER_MOMENTUM;
  if (aggregation.server_learning_rate() == 0) {
    aggregation.set_server_learning_rate(momentum ? kMomentumRate : kAdaptiveRate);
  }
  if (momentum) {
    if (!aggregation.has_server_momentum()) aggregation.set_server_momentum(kMomentum);
    return;
  }
  if (aggregation.server_beta1() == 0) aggregation.set_server_beta1(kBeta1);
  if (aggregation.server_beta2() == 0) aggregation.set_server_beta2(kBeta2);
  if (aggregation.server_tau() == 0) aggregation.set_server_tau(kTau);
}

}  // namespace espalier::config
