#include "worker/engine/optimizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "common/base/status.h"
#include "common/tensor/optimizer_slots.h"
#include "worker/engine/multiversion.h"

namespace espalier::worker::engine {
namespace {

// Everything constant over a step, in the precision of the values.
struct SgdStep {
  float learning_rate;
  float momentum;
  float weight_decay;
};
struct AdamStep {
  float step_size;  // η / (1 − β1^t)
  float beta1;
  float beta2;
  float second_correction;  // 1 / (1 − β2^t)
  float epsilon;
  float coupled_decay;  // λ, or 0
  float shrink;         // 1 − ηλ, or 1
};

// A slot that only decays would end among the subnormal numbers, where the arithmetic of some
// processors is many times slower, and stay there: 0.9 times the smallest of them rounds to itself.
inline float WithoutSubnormals(float slot) {
  return std::fabs(slot) < std::numeric_limits<float>::min() ? 0.0F : slot;
}

ESPALIER_MULTIVERSION
void PlainSgd(SgdStep s, const float* __restrict gradient, int64_t size, float* __restrict w) {
  for (int64_t i = 0; i < size; ++i) {
    w[i] -= s.learning_rate * (gradient[i] + s.weight_decay * w[i]);
  }
}

ESPALIER_MULTIVERSION
void PlainDecoupledSgd(SgdStep s, const float* __restrict gradient, int64_t size,
                       float* __restrict w) {
  for (int64_t i = 0; i < size; ++i) {
    w[i] = w[i] - s.learning_rate * gradient[i] - s.weight_decay * w[i];
  }
}

ESPALIER_MULTIVERSION
void MomentumSgd(SgdStep s, bool nesterov, const float* __restrict gradient, int64_t size,
                 float* __restrict w, float* __restrict v) {
  if (nesterov) {
    for (int64_t i = 0; i < size; ++i) {
      const float g = gradient[i] + s.weight_decay * w[i];
      v[i] = WithoutSubnormals(s.momentum * v[i] + g);
      w[i] -= s.learning_rate * (g + s.momentum * v[i]);
    }
    return;
  }
  for (int64_t i = 0; i < size; ++i) {
    v[i] = WithoutSubnormals(s.momentum * v[i] + (gradient[i] + s.weight_decay * w[i]));
    w[i] -= s.learning_rate * v[i];
  }
}

ESPALIER_MULTIVERSION
void MomentumDecoupledSgd(SgdStep s, bool nesterov, const float* __restrict gradient, int64_t size,
                          float* __restrict w, float* __restrict v) {
  if (nesterov) {
    for (int64_t i = 0; i < size; ++i) {
      const float step = s.learning_rate * gradient[i];
      v[i] = WithoutSubnormals(s.momentum * v[i] - step);
      w[i] = w[i] + (s.momentum * v[i] - step) - s.weight_decay * w[i];
    }
    return;
  }
  for (int64_t i = 0; i < size; ++i) {
    v[i] = WithoutSubnormals(s.momentum * v[i] - s.learning_rate * gradient[i]);
    w[i] = w[i] + v[i] - s.weight_decay * w[i];
  }
}

ESPALIER_MULTIVERSION
void Adam(AdamStep s, const float* __restrict gradient, int64_t size, float* __restrict w,
          float* __restrict m, float* __restrict v) {
  for (int64_t i = 0; i < size; ++i) {
    const float g = gradient[i] + s.coupled_decay * w[i];
    m[i] = WithoutSubnormals(s.beta1 * m[i] + (1.0F - s.beta1) * g);
    v[i] = WithoutSubnormals(s.beta2 * v[i] + (1.0F - s.beta2) * (g * g));
    const float scale = std::sqrt(v[i] * s.second_correction) + s.epsilon;
    w[i] = s.shrink * w[i] - s.step_size * m[i] / scale;
  }
}

ESPALIER_MULTIVERSION
void AddProximal(float mu, const float* __restrict w, const float* __restrict reference,
                 int64_t size, float* __restrict gradient) {
  for (int64_t i = 0; i < size; ++i) gradient[i] += mu * (w[i] - reference[i]);
}

ESPALIER_MULTIVERSION
void Add(const float* __restrict term, int64_t size, float* __restrict gradient) {
  for (int64_t i = 0; i < size; ++i) gradient[i] += term[i];
}

AdamStep MakeAdamStep(const OptimizerSpec& spec, double learning_rate, int64_t step) {
  const auto t = static_cast<double>(step);
  const double decay = spec.weight_decay;
  return {.step_size = static_cast<float>(learning_rate / (1.0 - std::pow(spec.beta1, t))),
          .beta1 = static_cast<float>(spec.beta1),
          .beta2 = static_cast<float>(spec.beta2),
          .second_correction = static_cast<float>(1.0 / (1.0 - std::pow(spec.beta2, t))),
          .epsilon = static_cast<float>(spec.epsilon),
          .coupled_decay = spec.decoupled_weight_decay ? 0.0F : static_cast<float>(decay),
          .shrink =
              spec.decoupled_weight_decay ? static_cast<float>(1.0 - learning_rate * decay) : 1.0F};
}

// A step of many small updates, as those of embedding rows are, asks for the same again and again.
const AdamStep& AdamStepOf(const OptimizerSpec& spec, double learning_rate, int64_t step) {
  using Key = std::array<double, 7>;
  const Key key = {static_cast<double>(step),
                   learning_rate,
                   spec.beta1,
                   spec.beta2,
                   spec.epsilon,
                   spec.weight_decay,
                   spec.decoupled_weight_decay ? 1.0 : 0.0};
  thread_local Key last_key = {};
  thread_local AdamStep last = {};
  if (key != last_key) {
    last = MakeAdamStep(spec, learning_rate, step);
    last_key = key;
  }
  return last;
}

bool InHalfOpenUnit(double value) { return value >= 0 && value < 1; }

absl::Status OutOfRange(const char* name, const char* range) {
  return base::InvalidArgument("OPTIMIZER_PARAMETER",
                               std::string("optimizer ") + name + " must be " + range);
}

}  // namespace

absl::Status ValidateOptimizer(const OptimizerSpec& spec) {
  if (!InHalfOpenUnit(spec.momentum)) return OutOfRange("momentum", "in [0, 1)");
  if (!InHalfOpenUnit(spec.beta1)) return OutOfRange("beta1", "in [0, 1)");
  if (!InHalfOpenUnit(spec.beta2)) return OutOfRange("beta2", "in [0, 1)");
  if (!(spec.weight_decay >= 0) || !std::isfinite(spec.weight_decay)) {
    return OutOfRange("weight_decay", "finite and not negative");
  }
  if (!(spec.epsilon > 0) || !std::isfinite(spec.epsilon)) {
    return OutOfRange("epsilon", "finite and positive");
  }
  return absl::OkStatus();
}

int OptimizerSlots(const OptimizerSpec& spec) {
  return tensor::OptimizerSlots(spec.kind == OptimizerSpec::Kind::kAdam, spec.momentum);
}

void UpdateValues(const OptimizerSpec& spec, double learning_rate, int64_t step,
                  const float* gradient, int64_t size, float* values, float* first_slot,
                  float* second_slot) {
  if (spec.kind == OptimizerSpec::Kind::kAdam) {
    Adam(AdamStepOf(spec, learning_rate, step), gradient, size, values, first_slot, second_slot);
    return;
  }
  const SgdStep sgd = {static_cast<float>(learning_rate), static_cast<float>(spec.momentum),
                       static_cast<float>(spec.weight_decay)};
  const bool decoupled = spec.decoupled_weight_decay;
  if (spec.momentum == 0) {
    (decoupled ? PlainDecoupledSgd : PlainSgd)(sgd, gradient, size, values);
  } else {
    (decoupled ? MomentumDecoupledSgd : MomentumSgd)(sgd, spec.nesterov, gradient, size, values,
                                                     first_slot);
  }
}

Optimizer::Optimizer(const OptimizerSpec& spec, int64_t size) : spec_(spec), size_(size) {
  const int slots = OptimizerSlots(spec_);
  if (slots >= 1) first_moment_ = AlignedBuffer(size);
  if (slots >= 2) second_moment_ = AlignedBuffer(size);
}

void Optimizer::Reset() {
  std::ranges::fill(first_moment_.span(), 0.0F);
  std::ranges::fill(second_moment_.span(), 0.0F);
  step_ = 0;
  terms_ = {};
}

absl::Status Optimizer::SetTerms(const GradientTerms& terms) {
  if (!(terms.proximal_mu >= 0) || !std::isfinite(terms.proximal_mu)) {
    return OutOfRange("proximal_mu", "finite and not negative");
  }
  const auto fits = [this](std::span<const float> term, bool needed) {
    return static_cast<int64_t>(term.size()) == size_ || (term.empty() && !needed);
  };
  if (!fits(terms.reference, terms.proximal_mu > 0) || !fits(terms.correction, false)) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH", "expected gradient terms of " + std::to_string(size_) +
                              " values, found a reference of " +
                              std::to_string(terms.reference.size()) + " and a correction of " +
                              std::to_string(terms.correction.size()));
  }
  terms_ = terms;
  return absl::OkStatus();
}

absl::Status Optimizer::Resume(std::span<const float> state, int64_t steps) {
  const auto expected = static_cast<size_t>(first_moment_.size() + second_moment_.size());
  if (state.size() != expected) {
    return base::InvalidArgument("SHAPE_MISMATCH",
                                 "expected optimizer state of " + std::to_string(expected) +
                                     " values, found " + std::to_string(state.size()));
  }
  std::ranges::copy(state.first(first_moment_.size()), first_moment_.data());
  std::ranges::copy(state.subspan(first_moment_.size()), second_moment_.data());
  step_ = steps;
  return absl::OkStatus();
}

std::vector<float> Optimizer::state() const {
  const auto first = first_moment_.span();
  const auto second = second_moment_.span();
  std::vector<float> state(first.begin(), first.end());
  state.insert(state.end(), second.begin(), second.end());
  return state;
}

void Optimizer::BeginStep(double learning_rate) {
  learning_rate_ = static_cast<float>(learning_rate);
  ++step_;
}

void Optimizer::Update(std::span<const float> gradient, int64_t first, float* values) {
  const bool proximal = terms_.proximal_mu > 0;
  if (!proximal && terms_.correction.empty()) return Apply(gradient, first, values);
  // A piece at a time, so that nothing as long as the model is needed.
  constexpr size_t kPiece = 1024;
  std::array<float, kPiece> sum;
  for (size_t begin = 0; begin < gradient.size(); begin += kPiece) {
    const size_t size = std::min(kPiece, gradient.size() - begin);
    const size_t at = static_cast<size_t>(first) + begin;
    std::copy_n(gradient.data() + begin, size, sum.data());
    if (proximal) {
      AddProximal(static_cast<float>(terms_.proximal_mu), values + at, terms_.reference.data() + at,
                  static_cast<int64_t>(size), sum.data());
    }
    if (!terms_.correction.empty()) {
      Add(terms_.correction.data() + at, static_cast<int64_t>(size), sum.data());
    }
    Apply(std::span(sum).first(size), static_cast<int64_t>(at), values);
  }
}

void Optimizer::Apply(std::span<const float> gradient, int64_t first, float* values) {
  const auto slot = [first](AlignedBuffer& buffer) {
    return buffer.size() == 0 ? nullptr : buffer.data() + first;
  };
  UpdateValues(spec_, learning_rate_, step_, gradient.data(), static_cast<int64_t>(gradient.size()),
               values + first, slot(first_moment_), slot(second_moment_));
}

}  // namespace espalier::worker::engine
