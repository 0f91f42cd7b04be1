#include "common/base/status.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/windows.h"

namespace espalier::wire {
namespace {

class GlobalAvgPool final : public LayerDescriptor {
 public:
  GlobalAvgPool() : LayerDescriptor(v1::Layer::kGlobalAvgPool) {}

  absl::StatusOr<FeatureShape> OutputShape(const v1::Layer& /*layer*/,
                                           const FeatureShape& input) const override {
    ESPALIER_RETURN_IF_ERROR(NeedsImage(input));
    return FeatureShape{.channels = input.channels, .image = true};
  }

  ChannelFlow channel_flow() const override { return ChannelFlow::kKept; }
};

}  // namespace

const LayerDescriptor& GlobalAvgPoolKind() {
  static const GlobalAvgPool kind;
  return kind;
}

}  // namespace espalier::wire
