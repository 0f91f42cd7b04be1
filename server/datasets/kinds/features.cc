// Tables, arrays and images: examples with features.
#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <utility>

#include "server/datasets/kinds/kinds.h"

namespace espalier::server::datasets {
namespace {

std::string Shape(int64_t channels, int64_t height, int64_t width) {
  return std::to_string(channels) + " × " + std::to_string(height) + " × " + std::to_string(width) +
         " (channels, height, width)";
}

class Features : public DataKind {
 public:
  std::vector<config::Violation> Misfits(const v1::JobSpec& spec,
                                         const v1::DatasetInfo& info) const override;
  void FillIn(const v1::DatasetInfo& info, v1::JobSpec& spec,
              std::vector<config::Violation>& violations) const override;
  int64_t MostExamples(const v1::JobSpec& spec, const v1::Task& task,
                       const v1::DatasetInfo& info) const override;
};

std::vector<config::Violation> Features::Misfits(const v1::JobSpec& spec,
                                                 const v1::DatasetInfo& info) const {
  if (auto other = OnlyInteractions(info)) return {*std::move(other)};
  if (info.format() == "text") {
    return {{"data.text", "data set '" + info.name() +
                              "' is text; set data.text: {context: …} and model.transformer"}};
  }
  std::vector<config::Violation> violations;
  if (info.features() == 0) return violations;
  if (!spec.model().layers().empty() && info.features() != spec.model().input_features()) {
    violations.push_back(
        {"model.input_features", "expected " + std::to_string(info.features()) +
                                     ", the features of data set '" + info.name() + "', found " +
                                     std::to_string(spec.model().input_features())});
  }
  const v1::ImageShape& image = spec.model().input_image();
  const bool same = image.channels() == info.image_channels() &&
                    image.height() == info.image_height() && image.width() == info.image_width();
  if (violations.empty() && spec.model().has_input_image() && info.image_height() > 0 && !same) {
    violations.push_back(
        {"model.input_image",
         "expected " + Shape(info.image_channels(), info.image_height(), info.image_width()) +
             ", the images of data set '" + info.name() + "', found " +
             Shape(image.channels(), image.height(), image.width())});
  }
  if (spec.model().layers().empty()) return violations;
  const auto& last = spec.model().layers(spec.model().layers_size() - 1).linear();
  const std::string units =
      "model.layers[" + std::to_string(spec.model().layers_size() - 1) + "].linear.units";
  if (spec.data().target() == v1::DataSpec::TARGET_INPUT) {
    if (last.units() != info.features()) {
      violations.push_back({units, "expected " + std::to_string(info.features()) +
                                       ", the features of data set '" + info.name() +
                                       "', since the input is learned, found " +
                                       std::to_string(last.units())});
    }
    return violations;
  }
  if (info.targets() > 0) {
    if (last.units() != info.targets()) {
      violations.push_back({units, "expected " + std::to_string(info.targets()) +
                                       ", as many numbers as data set '" + info.name() +
                                       "' has to be learned of each example, found " +
                                       std::to_string(last.units())});
    }
    return violations;
  }
  if (last.units() < info.classes()) {
    violations.push_back({units, "expected at least " + std::to_string(info.classes()) +
                                     ", the classes of data set '" + info.name() + "', found " +
                                     std::to_string(last.units())});
  }
  return violations;
}

void Features::FillIn(const v1::DatasetInfo& info, v1::JobSpec& spec,
                      std::vector<config::Violation>& violations) const {
  v1::ModelSpec& model = *spec.mutable_model();
  const bool is_described = !model.layers().empty() || !model.name().empty();
  if (!model.pretrained().empty() && !is_described) return;  // the trained model says its sizes
  const bool convolutional = !model.name().empty() ||
                             std::any_of(model.layers().begin(), model.layers().end(),
                                         [](const v1::Layer& layer) { return layer.has_conv2d(); });
  if (convolutional && !model.has_input_image() && info.image_height() > 0) {
    v1::ImageShape& image = *model.mutable_input_image();
    image.set_channels(info.image_channels());
    image.set_height(info.image_height());
    image.set_width(info.image_width());
  }
  if (!model.name().empty()) {
    if (model.parameters().classes() == 0 && info.classes() > 0) {
      model.mutable_parameters()->set_classes(info.classes());
    }
    return;
  }
  if (model.input_features() == 0 && !model.has_input_image()) {
    model.set_input_features(info.features());
  }
  if (model.layers().empty()) return;
  v1::Layer& last = *model.mutable_layers(model.layers_size() - 1);
  if (!last.has_linear() || last.linear().units() != 0) return;
  if (spec.data().target() == v1::DataSpec::TARGET_INPUT) {
    last.mutable_linear()->set_units(info.features());
    return;
  }
  if (info.targets() > 0) {
    last.mutable_linear()->set_units(info.targets());
    return;
  }
  last.mutable_linear()->set_units(info.classes());
  const int64_t examples = info.train_examples() + info.test_examples();
  if (info.class_names().empty() && examples > 0 && info.classes() > examples) {
    violations.push_back(
        {"data.label_column",
         fmt::format("expected labels of classes, numbered from 0, found numbers up to {} in {} "
                     "examples of data set '{}', which would be as many classes; name the column "
                     "of the labels, or set the units of the last layer if this is meant",
                     info.classes() - 1, examples, info.name())});
  }
}

int64_t Features::MostExamples(const v1::JobSpec& spec, const v1::Task& task,
                               const v1::DatasetInfo& info) const {
  if (task.has_evaluate()) return info.train_examples() + info.test_examples();
  int64_t train = info.train_examples();
  if (spec.data().train_limit() > 0) train = std::min(train, spec.data().train_limit());
  const v1::Partition& partition = spec.data().partition();
  const bool even = partition.kind() == v1::Partition::KIND_IID ||
                    partition.kind() == v1::Partition::KIND_UNSPECIFIED;
  if (!even || partition.shards() <= 1) return train;
  return (train + partition.shards() - 1) / partition.shards();
}

}  // namespace

const DataKind& FeatureData() {
  static const Features kind;
  return kind;
}

}  // namespace espalier::server::datasets
