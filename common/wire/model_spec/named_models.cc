#include "common/wire/model_spec/named_models.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/wire/model_spec/shapes.h"

namespace espalier::wire {
namespace {

using Layers = google::protobuf::RepeatedPtrField<v1::Layer>;

struct Convolution {
  int64_t channels;
  int32_t kernel = 3;
  int32_t stride = 1;
  int32_t padding = 1;
};

// What a convolution is normalised by.
enum class Normalization { kNone, kBatch, kWeight };

// Appends layers; channels and units are scaled by the model's width.
class Writer {
 public:
  Writer(const v1::NamedModelParameters& parameters, Normalization normalization, Layers* layers)
      : width_(parameters.width() == 0 ? 1 : parameters.width()),
        normalization_(normalization),
        layers_(layers) {}

  Writer Into(Layers* layers) const {
    Writer writer = *this;
    writer.layers_ = layers;
    return writer;
  }

  v1::Layer* Add() const { return layers_->Add(); }

  // A convolution, its batch norm when the model has them, and the activation after both.
  void Conv(const Convolution& conv, v1::Activation activation) const {
    v1::Conv2dLayer& layer = *Add()->mutable_conv2d();
    layer.set_channels(Scaled(conv.channels));
    layer.set_kernel(conv.kernel);
    layer.set_stride(conv.stride);
    layer.set_padding(conv.padding);
    layer.set_no_bias(normalization_ == Normalization::kBatch);
    layer.set_standardize(normalization_ == Normalization::kWeight);
    if (normalization_ != Normalization::kBatch) return layer.set_activation(activation);
    Add()->mutable_batch_norm()->set_activation(activation);
  }

  void Linear(int64_t units) const {
    v1::LinearLayer& layer = *Add()->mutable_linear();
    layer.set_units(Scaled(units));
    layer.set_activation(v1::ACTIVATION_RELU);
  }

  void Classes(int64_t classes) const { Add()->mutable_linear()->set_units(classes); }

 private:
  int64_t Scaled(int64_t channels) const {
    return std::max<int64_t>(1, std::llround(width_ * static_cast<double>(channels)));
  }

  double width_;
  Normalization normalization_;
  Layers* layers_;
};

void ResidualBlock(const Writer& writer, int64_t channels, int32_t stride, bool same_channels) {
  v1::ResidualLayer& block = *writer.Add()->mutable_residual();
  block.set_activation(v1::ACTIVATION_RELU);
  const Writer body = writer.Into(block.mutable_body());
  body.Conv({.channels = channels, .stride = stride}, v1::ACTIVATION_RELU);
  body.Conv({.channels = channels}, v1::ACTIVATION_LINEAR);
  if (same_channels && stride == 1) return;
  writer.Into(block.mutable_shortcut())
      .Conv({.channels = channels, .kernel = 1, .stride = stride, .padding = 0},
            v1::ACTIVATION_LINEAR);
}

void ResNet(const Writer& writer, int64_t channels, int stages, int blocks) {
  writer.Conv({.channels = channels}, v1::ACTIVATION_RELU);
  for (int stage = 0; stage < stages; ++stage) {
    for (int block = 0; block < blocks; ++block) {
      const bool first = block == 0 && stage > 0;
      ResidualBlock(writer, channels << stage, first ? 2 : 1, !first);
    }
  }
  writer.Add()->mutable_global_avg_pool();
}

void Vgg11(const Writer& writer) {
  constexpr int64_t kPool = 0;
  for (const int64_t channels :
       {int64_t{64}, kPool, int64_t{128}, kPool, int64_t{256}, int64_t{256}, kPool, int64_t{512},
        int64_t{512}, kPool, int64_t{512}, int64_t{512}, kPool}) {
    if (channels == kPool) {
      writer.Add()->mutable_max_pool();
    } else {
      writer.Conv({.channels = channels}, v1::ACTIVATION_RELU);
    }
  }
}

void LeNet5(const Writer& writer) {
  writer.Conv({.channels = 6, .kernel = 5, .padding = 2}, v1::ACTIVATION_RELU);
  writer.Add()->mutable_max_pool();
  writer.Conv({.channels = 16, .kernel = 5, .padding = 0}, v1::ACTIVATION_RELU);
  writer.Add()->mutable_max_pool();
  writer.Linear(120);
  writer.Linear(84);
}

void SetImage(v1::ModelSpec& spec, int64_t channels, int64_t size) {
  if (spec.has_input_image()) return;
  spec.mutable_input_image()->set_channels(channels);
  spec.mutable_input_image()->set_height(size);
  spec.mutable_input_image()->set_width(size);
}

Normalization NormalizationOf(const std::string& name, const v1::NamedModelParameters& parameters) {
  if (parameters.normalization() == v1::NamedModelParameters::NORMALIZATION_WEIGHT) {
    return Normalization::kWeight;
  }
  const bool batch = parameters.normalization() == v1::NamedModelParameters::NORMALIZATION_BATCH ||
                     name.starts_with("resnet") ||
                     (parameters.has_batch_norm() ? parameters.batch_norm() : name != "lenet5");
  return batch ? Normalization::kBatch : Normalization::kNone;
}

// Replaces the name by layers.
void WriteLayers(v1::ModelSpec& spec) {
  const std::string name = std::exchange(*spec.mutable_name(), "");
  const v1::NamedModelParameters parameters = spec.parameters();
  spec.clear_parameters();
  const bool lenet = name == "lenet5";
  SetImage(spec, lenet ? 1 : 3, lenet ? 28 : 32);
  const Writer writer(parameters, NormalizationOf(name, parameters), spec.mutable_layers());
  if (name == "resnet8") ResNet(writer, 16, 3, 1);
  if (name == "resnet20") ResNet(writer, 16, 3, 3);
  if (name == "resnet18") ResNet(writer, 64, 4, 2);
  if (name == "vgg11") Vgg11(writer);
  if (lenet) LeNet5(writer);
  constexpr int64_t kClasses = 10;
  writer.Classes(parameters.classes() == 0 ? kClasses : parameters.classes());
}

// Whether the layers can be written: what is outside is reported by the job's validator.
bool HasUsableName(const v1::ModelSpec& spec) {
  constexpr double kMaxWidth = 16;
  const std::vector<std::string> names = ModelNames();
  const v1::NamedModelParameters& parameters = spec.parameters();
  return spec.layers().empty() && std::ranges::find(names, spec.name()) != names.end() &&
         parameters.width() >= 0 && parameters.width() <= kMaxWidth && parameters.classes() >= 0 &&
         v1::NamedModelParameters::Normalization_IsValid(parameters.normalization()) &&
         (!parameters.has_batch_norm() ||
          (parameters.normalization() == v1::NamedModelParameters::NORMALIZATION_UNSPECIFIED &&
           (parameters.batch_norm() || !spec.name().starts_with("resnet"))));
}

bool IsUsable(const v1::ImageShape& image) {
  constexpr int64_t kMaxSide = 100'000;  // the product fits an int64
  const auto [low, high] = std::minmax({image.channels(), image.height(), image.width()});
  return low >= 1 && high <= kMaxSide;
}

}  // namespace

std::vector<std::string> ModelNames() {
  return {"resnet8", "resnet20", "resnet18", "vgg11", "lenet5"};
}

v1::ModelSpec ExplicitModel(const v1::ModelSpec& spec) {
  v1::ModelSpec model = spec;
  if (HasUsableName(model)) WriteLayers(model);
  if (model.has_input_image() && model.input_features() == 0 && IsUsable(model.input_image())) {
    model.set_input_features(InputShape(model).features());
  }
  return model;
}

}  // namespace espalier::wire
