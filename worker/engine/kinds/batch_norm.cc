#include "worker/engine/layers/batch_norm.h"

#include <cmath>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "worker/engine/engine_kind.h"

namespace espalier::worker::engine {
namespace {

class BatchNormFlow final : public FlowNode {
 public:
  // `factors`: one for each channel.
  BatchNormFlow(const MapShape& shape, std::vector<double> factors)
      : FlowNode(shape), factors_(std::move(factors)) {}

  void Forward(const FlowValues& input, FlowValues& output) override {
    for (size_t i = 0; i < output.size(); ++i) output[i] = input[i] * FactorOf(i);
  }
  FlowValues Backward(const FlowValues& /*input*/, FlowValues delta) override {
    for (size_t i = 0; i < delta.size(); ++i) delta[i] *= FactorOf(i);
    return delta;
  }

 private:
  double FactorOf(size_t feature) const { return factors_[feature / shape().positions()]; }

  std::vector<double> factors_;
};

class Kind final : public EngineKind {
 public:
  Kind() : EngineKind(LayerKind::kBatchNorm) {}

  absl::StatusOr<std::unique_ptr<Layer>> Make(const LayerSpec& spec, const MapShape& input,
                                              const LayerPlace& /*place*/,
                                              BuildContext& context) const override {
    return BatchNorm::Create(spec, input, context);
  }

  absl::StatusOr<std::unique_ptr<FlowNode>> MakeFlow(const LayerSpec& spec, const MapShape& input,
                                                     FlowContext& context) const override {
    ESPALIER_ASSIGN_OR_RETURN(const size_t scale, context.Take(input.channels, 1));
    for (int i = 0; i < 3; ++i) {
      ESPALIER_RETURN_IF_ERROR(context.Take(input.channels, 1).status());
    }
    const std::span<const float> scales = context.ValuesOf(scale);
    const std::span<const float> variances = context.ValuesOf(scale + 3);
    std::vector<double> factors;
    for (int64_t c = 0; c < input.channels; ++c) {
      const double variance = variances[c];
      factors.push_back(std::abs(scales[c]) / std::sqrt(variance + spec.epsilon));
    }
    return std::make_unique<BatchNormFlow>(input, std::move(factors));
  }
};

}  // namespace

const EngineKind& BatchNormKind() {
  static const Kind kind;
  return kind;
}

}  // namespace espalier::worker::engine
