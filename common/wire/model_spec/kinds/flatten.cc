#include "common/wire/model_spec/layer_descriptor.h"

namespace espalier::wire {
namespace {

class Flatten final : public LayerDescriptor {
 public:
  Flatten() : LayerDescriptor(v1::Layer::kFlatten) {}

  absl::StatusOr<FeatureShape> OutputShape(const v1::Layer& /*layer*/,
                                           const FeatureShape& input) const override {
    return FeatureShape{.channels = input.features()};
  }

  // Images are stored channel by channel: of each become as many features as it has positions.
  ChannelFlow channel_flow() const override { return ChannelFlow::kKept; }
  bool may_be_in_branch() const override { return false; }
};

}  // namespace

const LayerDescriptor& FlattenKind() {
  static const Flatten kind;
  return kind;
}

}  // namespace espalier::wire
