#include "server/datasets/dataset_fit.h"

#include <string>
#include <utility>

namespace espalier::server::datasets {
namespace {

// Before any filter: they only leave users and items out, and local files hold a part each.
void CheckInteractions(const v1::JobSpec& spec, const v1::DatasetInfo& info,
                       std::vector<config::Violation>& violations) {
  if (info.features() > 0 && info.format() != "csv") {
    violations.push_back({"data.dataset", "expected interactions of users with items, found '" +
                                              info.name() + "' (" + info.format() +
                                              "); use another data set or a model of layers"});
    return;
  }
  const bool local = spec.data().partition().kind() == v1::Partition::KIND_LOCAL;
  // Read in another way than the worker did, the files may hold another number.
  const bool other_view = spec.data().header() != v1::DataSpec::HEADER_UNSPECIFIED ||
                          spec.data().delimiter() != v1::DataSpec::DELIMITER_UNSPECIFIED;
  if (info.interactions() == 0 || local || other_view) return;
  const v1::RecommenderSpec& model = spec.model().recommender();
  const v1::Interactions& how = spec.data().interactions();
  const bool filtered = how.min_rating() != 0 || how.user_core() > 1 || how.item_core() > 1;
  const auto check = [&](const char* field, int64_t wanted, int64_t found) {
    if (wanted == found || (filtered && wanted < found)) return;
    violations.push_back({std::string("model.recommender.") + field,
                          "expected " + std::to_string(found) + (filtered ? " or less" : "") +
                              ", as many as data set '" + info.name() + "' has, found " +
                              std::to_string(wanted)});
  };
  check("users", model.users(), info.users());
  check("items", model.items(), info.items());
}

std::string Shape(int64_t channels, int64_t height, int64_t width) {
  return std::to_string(channels) + " × " + std::to_string(height) + " × " + std::to_string(width) +
         " (channels, height, width)";
}

}  // namespace

std::vector<config::Violation> Misfits(const v1::JobSpec& spec, const v1::DatasetInfo& info) {
  std::vector<config::Violation> violations;
  if (spec.model().has_recommender()) {
    CheckInteractions(spec, info, violations);
    return violations;
  }
  // A table without known names may hold either, and has features then.
  if (info.interactions() > 0 && info.features() == 0) {
    violations.push_back(
        {"data.dataset", "expected labelled examples for a model of layers, found '" + info.name() +
                             "', interactions of users with items; use model.recommender"});
    return violations;
  }
  if (spec.data().has_text() != (info.format() == "text")) {
    violations.push_back(
        {"data.text", spec.data().has_text()
                          ? "data set '" + info.name() + "' is not text but " + info.format() +
                                "; remove data.text, or choose a folder with train.txt"
                          : "data set '" + info.name() +
                                "' is text; set data.text: {context: …} and model.transformer"});
    return violations;
  }
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

std::function<std::string(const v1::DatasetInfo&)> FitJudge(const v1::JobSpec& spec) {
  return [spec](const v1::DatasetInfo& info) {
    if (!info.problem().empty()) return info.problem();
    std::string text;
    for (const config::Violation& misfit : Misfits(spec, info)) {
      text += (text.empty() ? "" : "; ") + misfit.field + ": " + misfit.description;
    }
    return text;
  };
}

}  // namespace espalier::server::datasets
