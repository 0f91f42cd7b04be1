#include "common/config/validate_model.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "common/base/status.h"
#include "common/config/job_file.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/named_models.h"
#include "common/wire/model_spec/shapes.h"

namespace espalier::config {
namespace {

using wire::FeatureShape;
using wire::LayerPlace;
using wire::Layers;

constexpr double kMaxInputNoise = 1000;
constexpr int64_t kMaxUnits = 10'000'000;
constexpr int64_t kMaxInputFeatures = std::numeric_limits<int32_t>::max() - 1;
constexpr int64_t kMaxImageSide = 100'000;
constexpr int kMaxLayers = 1000;
constexpr double kMaxModelWidth = 16;
// Positions in a structure are counted by 32-bit integers.
constexpr double kMaxStoredWeights = std::numeric_limits<int32_t>::max();
// A weight in training: value, gradient, momentum and index, 4 bytes each.
constexpr double kTrainingBytesPerWeight = 16;
constexpr double kMaxOutputs = 32'000'000;

// Checks layers and follows the shape through them; no shape after the first layer for which none
// can be told.
class LayerChecker {
 public:
  std::optional<FeatureShape> Check(const Layers& layers, std::optional<FeatureShape> shape,
                                    LayerPlace place, const std::string& field, const Checker& at) {
    for (int i = 0; i < layers.size() && count_ <= kMaxLayers; ++i) {
      const LayerPlace here = {.last = place.last && i + 1 == layers.size(),
                               .in_branch = place.in_branch};
      shape = CheckLayer(layers[i], shape, here, at.In(fmt::format("{}[{}]", field, i)));
    }
    return shape;
  }

  int count() const { return count_; }

 private:
  std::optional<FeatureShape> CheckLayer(const v1::Layer& layer, std::optional<FeatureShape> shape,
                                         LayerPlace place, const Checker& at) {
    ++count_;
    const auto known = wire::KindOf(layer);
    if (!known.ok()) {
      at.Fail("linear",
              "a layer needs a kind: expected for example linear: {units: …} or conv2d: {channels: "
              "…}, found nothing");
      return std::nullopt;
    }
    const wire::LayerDescriptor& kind = **known;
    if (place.last && !kind.may_be_last()) {
      at.Fail(kind.word(),
              "the last layer gives one output per class: expected linear: {units: …}");
    }
    if (place.in_branch && !kind.may_be_in_branch()) {
      at.Fail(kind.word(), "a residual layer holds conv2d, batch_norm and pooling layers only");
      return std::nullopt;
    }
    const Checker in = at.In(kind.word());
    const bool sized = kind.CheckRanges(layer, place, in);
    const std::vector<wire::Branch> branches = kind.Branches(layer);
    const bool fit = CheckBranches(branches, shape, in);
    if (!sized || !fit || !shape) return std::nullopt;
    const auto output = kind.OutputShape(layer, *shape);
    if (output.ok()) return *output;
    // Branches fit by themselves: the last one does not fit the others.
    const Checker& where = branches.empty() ? at : in;
    where.Fail(branches.empty() ? kind.word() : branches.back().field,
               base::MessageOf(output.status()));
    return std::nullopt;
  }

  // Whether the shapes of all can be told.
  bool CheckBranches(const std::vector<wire::Branch>& branches, std::optional<FeatureShape> shape,
                     const Checker& in) {
    bool fit = true;
    for (const wire::Branch& branch : branches) {
      fit &= Check(*branch.layers, shape, {.in_branch = true}, branch.field, in).has_value();
    }
    return fit;
  }

  int count_ = 0;
};

void ValidateLoss(const v1::ModelSpec& model, const Checker& at) {
  if (!at.Enum("loss", v1::Loss_IsValid(model.loss()), model.loss())) return;
  if (model.layers().empty() || !model.layers().rbegin()->has_linear()) return;
  const v1::LinearLayer& last = model.layers().rbegin()->linear();
  if (!v1::Activation_IsValid(last.activation())) return;
  const bool softmax = last.activation() == v1::ACTIVATION_SOFTMAX;
  if (model.loss() == v1::LOSS_MEAN_SQUARED_ERROR || model.loss() == v1::LOSS_MEAN_ABSOLUTE_ERROR ||
      model.loss() == v1::LOSS_HUBER) {
    return at.Check(!softmax, "loss",
                    "mean_squared_error does not support a softmax output; use cross_entropy, or "
                    "sigmoid or linear in the last layer");
  }
  if (model.loss() == v1::LOSS_BINARY_CROSS_ENTROPY) {
    return at.Check(
        last.activation() == v1::ACTIVATION_SIGMOID, "loss",
        fmt::format("binary_cross_entropy needs sigmoid in the last layer, found {}; change one of "
                    "them",
                    EnumWord(*v1::Activation_descriptor()->FindValueByNumber(last.activation()))));
  }
  const bool linear =
      last.activation() == v1::ACTIVATION_UNSPECIFIED || last.activation() == v1::ACTIVATION_LINEAR;
  at.Check(
      softmax || linear, "loss",
      fmt::format("cross_entropy applies softmax itself and needs linear or softmax in the "
                  "last layer, found {}; change one of them",
                  EnumWord(*v1::Activation_descriptor()->FindValueByNumber(last.activation()))));
}

// Share of a sparsifiable layer's positions that is stored at least, as far as it can be told from
// the spec alone. The method's own check knows better; this one gives a clear answer before it
// runs.
double LeastDensity(const v1::MethodSpec& method) {
  if (method.name() == "dense") return 1;
  const auto it = method.parameters().find("density");
  if (it == method.parameters().end()) return 0;
  const double density = it->second.has_int_value() ? static_cast<double>(it->second.int_value())
                                                    : it->second.double_value();
  return density > 0 && density <= 1 ? density : 0;
}

void ValidateOutputs(const v1::ModelSpec& model, const Checker& at) {
  const double values = wire::OutputsOf(model).total;
  at.Check(values <= kMaxOutputs, "layers",
           fmt::format("the layers give out {:.3g} values for one example, about {:.3g} GB on each "
                       "worker with batches of 32; at most {} are supported: use fewer channels or "
                       "units, or strides",
                       values, values * 48 * sizeof(float) / 1e9,
                       Grouped(static_cast<int64_t>(kMaxOutputs))));
}

// Whether the shape of an example is known.
bool ValidateInput(const v1::ModelSpec& model, const Checker& at) {
  const int64_t features = model.input_features();
  if (!model.has_input_image()) return at.Whole("input_features", features, 1, kMaxInputFeatures);
  const v1::ImageShape& image = model.input_image();
  const Checker in = at.In("input_image");
  bool sized = in.Whole("channels", image.channels(), 1, kMaxImageSide);
  sized &= in.Whole("height", image.height(), 1, kMaxImageSide);
  sized &= in.Whole("width", image.width(), 1, kMaxImageSide);
  if (!sized) return false;
  const int64_t product = wire::InputShape(model).features();
  if (product > kMaxInputFeatures) {
    at.Fail("input_image", fmt::format("expected at most {} values in an image, found {}",
                                       Grouped(kMaxInputFeatures), Grouped(product)));
    return false;
  }
  at.Check(features == 0 || features == product, "input_features",
           fmt::format("expected {}, the values of an image of input_image, or nothing; found {}",
                       product, features));
  return true;
}

// Reports what is wrong with a name and its parameters; true when the model has a name.
bool ValidateName(const v1::ModelSpec& model, const Checker& at) {
  if (model.name().empty()) {
    at.Check(!model.has_parameters(), "parameters",
             "belong to a model that has a name; set name, or remove them");
    return false;
  }
  const std::vector<std::string> names = wire::ModelNames();
  if (std::ranges::find(names, model.name()) == names.end()) {
    at.Fail("name", UnknownName("model", model.name(), names));
  }
  at.Check(model.layers().empty(), "layers",
           fmt::format("{} has its own layers; remove layers, or name", Quoted(model.name())));
  const v1::NamedModelParameters& parameters = model.parameters();
  const Checker in = at.In("parameters");
  const double width = parameters.width();
  in.Number("width", width, width >= 0 && width <= kMaxModelWidth, "0 < x ≤ 16");
  in.Check(parameters.classes() >= 0 && parameters.classes() <= kMaxUnits, "classes",
           fmt::format("must be 1..{}, found {}", Grouped(kMaxUnits), parameters.classes()));
  in.Check(parameters.batch_norm() || !parameters.has_batch_norm() ||
               !model.name().starts_with("resnet"),
           "batch_norm",
           "a resnet is normalised: remove this, set normalization: weight, or choose vgg11 or "
           "lenet5");
  using Named = v1::NamedModelParameters;
  in.Enum("normalization", Named::Normalization_IsValid(parameters.normalization()),
          parameters.normalization());
  in.Check(parameters.normalization() == Named::NORMALIZATION_UNSPECIFIED ||
               !parameters.has_batch_norm(),
           "batch_norm", "normalization says it already; remove one of them");
  return true;
}

}  // namespace

void ValidateSize(const v1::ModelSpec& model, const v1::MethodSpec& method, const char* field,
                  const Checker& at) {
  const auto tensors = wire::TensorsOf(model);
  if (!tensors.ok()) return at.Fail(field, base::MessageOf(tensors.status()));
  const double density = LeastDensity(method);
  double stored = 0;
  for (const wire::ModelTensor& tensor : *tensors) {
    stored += static_cast<double>(tensor.spec.size()) * (tensor.spec.sparsifiable ? density : 1);
  }
  at.Check(stored <= kMaxStoredWeights, field,
           fmt::format("the model stores at least {:.3g} weights, about {:.3g} GB on each worker "
                       "while training; at most {} are supported: use a lower density, fewer units "
                       "or no dense layers",
                       stored, stored * kTrainingBytesPerWeight / 1e9,
                       Grouped(static_cast<int64_t>(kMaxStoredWeights))));
}

void ValidateLayers(const v1::ModelSpec& given, const v1::MethodSpec& method, const Checker& at) {
  at.Probability("input_dropout", given.input_dropout());
  at.Number("input_noise", given.input_noise(),
            given.input_noise() >= 0 && given.input_noise() <= kMaxInputNoise, "0 ≤ x ≤ 1000");
  const bool named = ValidateName(given, at);
  const v1::ModelSpec model = wire::ExplicitModel(given);
  if (named && model.layers().empty()) return;
  const bool sized = ValidateInput(model, at);
  if (model.layers().empty()) {
    return at.Fail("layers", "expected at least one layer, found none; see docs/examples");
  }
  LayerChecker checker;
  const auto shape =
      checker.Check(model.layers(), sized ? std::optional(wire::InputShape(model)) : std::nullopt,
                    {.last = true}, "layers", at);
  at.Check(checker.count() <= kMaxLayers, "layers",
           fmt::format("expected at most {} layers, found more", kMaxLayers));
  ValidateLoss(model, at);
  if (!shape || checker.count() > kMaxLayers) return;
  ValidateSize(model, method, "layers", at);
  ValidateOutputs(model, at);
}

}  // namespace espalier::config
