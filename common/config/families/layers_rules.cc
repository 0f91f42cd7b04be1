// The rules of models of layers, and of those that have a name.
#include <algorithm>

#include "common/config/families/rules.h"
#include "common/config/validate_model.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/named_models.h"

namespace espalier::config {
namespace {

class Layers : public FamilyRules {
 public:
  void ValidateModel(const v1::ModelSpec& given, const v1::MethodSpec& method,
                     const Checker& at) const override {
    ValidateLayers(given, method, at);
  }
  void ValidateText(const v1::DataSpec& data, const v1::ModelSpec& model,
                    const Checker& at) const override {
    at.Check(!data.has_text() || model.layers().empty(), "text",
             "is for language models; set model.transformer in place of layers, or remove text");
  }
  void ApplyModelDefaults(v1::ModelSpec& model) const override {
    model = wire::ExplicitModel(model);
    wire::ApplyLayerDefaults(*model.mutable_layers());
    ApplyNetworkDefaults(model);
  }
  void AssumeSizes(v1::ModelSpec& model) const override;

 private:
  bool has_channels() const override { return true; }
};

void Layers::AssumeSizes(v1::ModelSpec& model) const {
  if (model.layers().empty()) return;
  const bool sized = model.input_features() != 0 || model.has_input_image();
  const bool convolutional = std::any_of(model.layers().begin(), model.layers().end(),
                                         [](const v1::Layer& layer) { return layer.has_conv2d(); });
  if (!sized && convolutional) {
    // Large enough for what people do to images.
    constexpr int64_t kSide = 224;
    model.mutable_input_image()->set_channels(3);
    model.mutable_input_image()->set_height(kSide);
    model.mutable_input_image()->set_width(kSide);
  } else if (!sized) {
    model.set_input_features(1);
  }
  v1::Layer& last = *model.mutable_layers(model.layers_size() - 1);
  if (last.has_linear() && last.linear().units() == 0) last.mutable_linear()->set_units(1);
}

}  // namespace

void ApplyNetworkDefaults(v1::ModelSpec& model) {
  if (model.loss() == v1::LOSS_UNSPECIFIED) model.set_loss(v1::LOSS_CROSS_ENTROPY);
  if (model.dropout_scaling() == v1::DROPOUT_SCALING_UNSPECIFIED) {
    model.set_dropout_scaling(v1::DROPOUT_SCALING_TRAINING);
  }
}

const FamilyRules& LayersRules() {
  static const Layers rules;
  return rules;
}

}  // namespace espalier::config
