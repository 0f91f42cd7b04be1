// Models of layers, and those that have a name.
#include "common/base/status.h"
#include "common/wire/model_spec/evaluation_counts.h"
#include "common/wire/model_spec/families/families.h"

namespace espalier::wire {
namespace {

class Layers : public ModelFamily {
 public:
  Layers(const char* word, bool convolutional)
      : ModelFamily(word, ModelForm::kLayers), convolutional_(convolutional) {}

  bool Offers(ModelNeed need) const override {
    return need != ModelNeed::kInputWeights || !convolutional_;
  }
  absl::StatusOr<std::vector<ModelTensor>> Tensors(const v1::ModelSpec& spec) const override {
    return LayerTensors(spec);
  }
  ExampleCost CostOf(const v1::ModelSpec&, const v1::DataSpec&) const override { return {}; }
  bool HasLargeExamples(const v1::ModelSpec& spec) const override { return spec.has_input_image(); }

  int64_t Classes(const v1::ModelSpec& spec) const override {
    return spec.layers().empty() ? 0 : spec.layers(spec.layers_size() - 1).linear().units();
  }
  // Classes or target columns by the names that the sites agreed on, else by their places.
  std::vector<std::string> OutputNames(const v1::ModelSpec& spec,
                                       const v1::DataSpec& data) const override {
    const v1::Agreement& agreement = data.agreement();
    const auto& given =
        agreement.target_columns().empty() ? agreement.classes() : agreement.target_columns();
    std::vector<std::string> names;
    names.reserve(static_cast<size_t>(Outputs(spec)));
    for (int i = 0; i < Outputs(spec); ++i) {
      names.push_back(i < given.size() ? given[i] : std::to_string(i));
    }
    return names;
  }
  bool LargestIsBest(const v1::DataSpec& data) const override { return LearnsClass(data); }
  absl::Status CheckExample(const v1::Example& example) const override {
    if (example.tokens().empty() && example.user().empty() && example.item().empty()) {
      return absl::OkStatus();
    }
    return base::InvalidArgument(
        "INVALID_EXAMPLES",
        "expected values, cells or an image in each example, found tokens or a "
        "user and an item, which are for other models");
  }

 private:
  const bool convolutional_;
};

}  // namespace

const ModelFamily& LayersFamily(bool convolutional) {
  static const Layers mlp("mlp", false);
  static const Layers cnn("cnn", true);
  return convolutional ? cnn : mlp;
}

}  // namespace espalier::wire
