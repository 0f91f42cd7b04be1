#include "common/checkpoint/checkpoint_metadata.h"

#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <string_view>
#include <system_error>
#include <utility>

#include "common/base/status.h"

namespace espalier::checkpoint {
namespace {

// With nine digits always, so that the size of a file does not depend on when it was written.
constexpr char kTimeFormat[] = "%Y-%m-%dT%H:%M:%E9S%Ez";

using Json = nlohmann::json;

constexpr std::string_view kFormat = "espalier.checkpoint";
constexpr std::string_view kLanguageFormat = "espalier.language";
constexpr std::string_view kFormatVersion = "1";
constexpr size_t kMaxTensors = 10'000;
// Of all jobs in a row; so far below the largest number that rounds can be added.
constexpr int64_t kMaxSteps = int64_t{1} << 60;

absl::Status Invalid(std::string_view what) {
  return base::InvalidArgument("CHECKPOINT_INVALID",
                               fmt::format("not a checkpoint this version can read: {}", what));
}

// std::string of a number that reads back to the same number.
std::string NumberText(double value) { return fmt::format("{}", value); }

template <typename Number>
bool ParseNumber(const std::string& text, Number* value) {
  const char* end = text.data() + text.size();
  const auto result = std::from_chars(text.data(), end, *value);
  return result.ec == std::errc() && result.ptr == end;
}

std::string EncodeLayout(const tensor::ModelTopology& topology) {
  Json layout = Json::array();
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    const tensor::TensorSpec& spec = topology.layout()[i];
    layout.push_back({{"name", spec.name},
                      {"shape", spec.shape},
                      {"sparsifiable", spec.sparsifiable},
                      {"sparse", topology.is_sparse(i)}});
    if (spec.buffer) layout.back()["buffer"] = true;
  }
  return layout.dump(-1, ' ', false, Json::error_handler_t::replace);
}

// rows × cols of a shape; false when a dimension is below 1 or the product above 2^53.
bool SetRowsAndCols(tensor::TensorSpec* spec) {
  constexpr int64_t kMaxSize = int64_t{1} << 53;
  int64_t size = 1;
  for (const int64_t dimension : spec->shape) {
    if (dimension < 1 || dimension > kMaxSize / size) {
      return false;
    }
    size *= dimension;
  }
  if (spec->shape.empty()) {
    return false;
  }
  spec->rows = spec->shape[0];
  spec->cols = size / spec->rows;
  return true;
}

absl::Status DecodeLayoutEntry(const Json& entry, DecodedMetadata* out) {
  const bool typed = entry.is_object() && entry.contains("name") && entry["name"].is_string() &&
                     entry.contains("shape") && entry["shape"].is_array() &&
                     entry.contains("sparsifiable") && entry["sparsifiable"].is_boolean() &&
                     entry.contains("sparse") && entry["sparse"].is_boolean();
  if (!typed) {
    return Invalid("a layout entry needs name, shape, sparsifiable and sparse");
  }
  tensor::TensorSpec spec;
  spec.name = entry["name"].get<std::string>();
  spec.sparsifiable = entry["sparsifiable"].get<bool>();
  spec.buffer = entry.contains("buffer") && entry["buffer"] == true;
  for (const Json& dimension : entry["shape"]) {
    spec.shape.push_back(dimension.is_number_unsigned() ? dimension.get<int64_t>() : 0);
  }
  if (!SetRowsAndCols(&spec)) {
    return Invalid(fmt::format("tensor '{}' has an impossible shape", spec.name));
  }
  out->layout.push_back(std::move(spec));
  out->sparse.push_back(entry["sparse"].get<bool>());
  return absl::OkStatus();
}

absl::Status DecodeLayout(const std::string& text, DecodedMetadata* out) {
  // Deeper nesting than a list of objects with a list of sizes is refused while parsing.
  bool shallow = true;
  const auto guard = [&shallow](int depth, Json::parse_event_t event, Json&) {
    if (event == Json::parse_event_t::array_start || event == Json::parse_event_t::object_start) {
      shallow = shallow && depth < 3;
    }
    return shallow;
  };
  const Json layout = Json::parse(text, guard, false);
  if (!shallow || !layout.is_array() || layout.size() > kMaxTensors) {
    return Invalid("the entry layout is not a list of tensors");
  }
  for (const Json& entry : layout) {
    ESPALIER_RETURN_IF_ERROR(DecodeLayoutEntry(entry, out));
  }
  return absl::OkStatus();
}

// Reads entries by name and remembers the first that is missing.
class Entries {
 public:
  explicit Entries(const MetadataStrings& strings) : strings_(strings) {}

  const std::string& operator[](const std::string& key) {
    static const std::string kNone;
    const auto found = strings_.find(key);
    if (found == strings_.end()) {
      missing_ = missing_.empty() ? key : missing_;
      return kNone;
    }
    return found->second;
  }
  const std::string& missing() const { return missing_; }

 private:
  const MetadataStrings& strings_;
  std::string missing_;
};

std::string MainMetricText(const CheckpointMetadata& metadata) {
  return metadata.main_metric.has_value() ? NumberText(*metadata.main_metric) : std::string();
}

// What not every file says.
void AddOrigin(const CheckpointMetadata& metadata, MetadataStrings& strings) {
  if (!metadata.run.empty()) strings["run"] = metadata.run;
  if (!metadata.owner.empty()) strings["owner"] = metadata.owner;
  if (!metadata.method.empty()) strings["method"] = metadata.method;
}

}  // namespace

absl::StatusOr<MetadataStrings> EncodeMetadata(const CheckpointMetadata& metadata,
                                               const tensor::ModelTopology& topology,
                                               const std::string& data_sha256) {
  std::string spec;
  if (!google::protobuf::util::MessageToJsonString(metadata.model_spec, &spec).ok()) {
    return Invalid("the model spec cannot be written as JSON");
  }
  MetadataStrings strings{
      {"format", std::string(kFormat)},
      {"format_version", std::string(kFormatVersion)},
      {"job", metadata.job},
      {"round", std::to_string(metadata.round)},
      {"topology_hash", topology.hash()},
      {"layout", EncodeLayout(topology)},
      {"model_spec", spec},
      {"main_metric_name", metadata.main_metric_name},
      {"main_metric", MainMetricText(metadata)},
      {"density", NumberText(Density(topology))},
      {"create_time", absl::FormatTime(kTimeFormat, metadata.create_time, absl::UTCTimeZone())},
      {"data_sha256", data_sha256}};
  AddOrigin(metadata, strings);
  if (metadata.data_spec.has_value()) {
    if (!google::protobuf::util::MessageToJsonString(*metadata.data_spec, &strings["data_spec"])
             .ok()) {
      return Invalid("the data spec cannot be written as JSON");
    }
    strings["seed"] = std::to_string(metadata.seed);
  }
  if (metadata.optimizer.has_value()) {
    if (!google::protobuf::util::MessageToJsonString(metadata.optimizer->optimizer,
                                                     &strings["optimizer"])
             .ok()) {
      return Invalid("the optimizer cannot be written as JSON");
    }
    strings["optimizer_steps"] = std::to_string(metadata.optimizer->steps);
  }
  return strings;
}

MetadataStrings EncodeLanguageMetadata(const CheckpointMetadata& metadata, double density) {
  MetadataStrings strings{
      {"format", std::string(kLanguageFormat)},
      {"format_version", std::string(kFormatVersion)},
      {"job", metadata.job},
      {"round", std::to_string(metadata.round)},
      {"main_metric_name", metadata.main_metric_name},
      {"main_metric", MainMetricText(metadata)},
      {"density", NumberText(density)},
      {"create_time", absl::FormatTime(kTimeFormat, metadata.create_time, absl::UTCTimeZone())},
      {"data_sha256", std::string(kUnknownDigest)}};
  AddOrigin(metadata, strings);
  return strings;
}

namespace {

absl::Status DecodeData(const MetadataStrings& strings, CheckpointMetadata* out) {
  const auto spec = strings.find("data_spec");
  if (spec == strings.end()) return absl::OkStatus();
  const auto seed = strings.find("seed");
  out->data_spec.emplace();
  if (seed == strings.end() || !ParseNumber(seed->second, &out->seed) ||
      !google::protobuf::util::JsonStringToMessage(spec->second, &*out->data_spec).ok()) {
    return Invalid("the entry data_spec or seed is malformed");
  }
  return absl::OkStatus();
}

absl::Status DecodeOptimizer(const MetadataStrings& strings, CheckpointMetadata* out) {
  const auto spec = strings.find("optimizer");
  if (spec == strings.end()) return absl::OkStatus();
  const auto steps = strings.find("optimizer_steps");
  SavedOptimizer& saved = out->optimizer.emplace();
  if (steps == strings.end() || !ParseNumber(steps->second, &saved.steps) || saved.steps < 0 ||
      saved.steps > kMaxSteps ||
      !google::protobuf::util::JsonStringToMessage(spec->second, &saved.optimizer).ok() ||
      !v1::Optimizer::Kind_IsValid(saved.optimizer.kind()) || SlotsOf(saved.optimizer) == 0) {
    return Invalid(
        "the entries optimizer and optimizer_steps are no optimizer that keeps state and a number "
        "of minibatches");
  }
  return absl::OkStatus();
}

absl::Status DecodeNetwork(const MetadataStrings& strings, DecodedMetadata* out) {
  out->topology_hash = strings.at("topology_hash");
  if (!google::protobuf::util::JsonStringToMessage(strings.at("model_spec"),
                                                   &out->metadata.model_spec)
           .ok()) {
    return Invalid("the entry model_spec is malformed");
  }
  ESPALIER_RETURN_IF_ERROR(DecodeData(strings, &out->metadata));
  ESPALIER_RETURN_IF_ERROR(DecodeOptimizer(strings, &out->metadata));
  return DecodeLayout(strings.at("layout"), out);
}

// The config.json is for those who read the model: common/language/trained_config.h.
absl::Status DecodeLanguageModel(const MetadataStrings&, DecodedMetadata*) {
  return absl::OkStatus();
}

struct Format {
  std::string_view name;
  CheckpointKind kind;
  std::vector<std::string> entries;  // that only its headers have, all of which are needed
  absl::Status (*decode)(const MetadataStrings& strings, DecodedMetadata* out);
};

// Null for a name of none.
const Format* FindFormat(std::string_view name) {
  static const std::array<Format, 2> formats = {
      {{kFormat,
        CheckpointKind::kNetwork,
        {"topology_hash", "model_spec", "layout"},
        DecodeNetwork},
       {kLanguageFormat, CheckpointKind::kLanguageModel, {"config"}, DecodeLanguageModel}}};
  const auto* found = std::ranges::find(formats, name, &Format::name);
  return found == formats.end() ? nullptr : found;
}

}  // namespace

absl::StatusOr<DecodedMetadata> DecodeMetadata(const MetadataStrings& strings) {
  Entries entries(strings);
  DecodedMetadata out;
  const Format* format = FindFormat(entries["format"]);
  if (format == nullptr || entries["format_version"] != kFormatVersion) {
    return Invalid(fmt::format("expected format {} version {}, found '{}' version '{}'", kFormat,
                               kFormatVersion, entries["format"], entries["format_version"]));
  }
  out.metadata.kind = format->kind;
  out.metadata.job = entries["job"];
  out.data_sha256 = entries["data_sha256"];
  for (const auto& [name, value] :
       {std::pair("run", &out.metadata.run), std::pair("owner", &out.metadata.owner),
        std::pair("method", &out.metadata.method)}) {
    if (const auto it = strings.find(name); it != strings.end()) *value = it->second;
  }
  // Files of before had the accuracy alone.
  const bool old = strings.contains("test_accuracy");
  const std::string& metric = entries[old ? "test_accuracy" : "main_metric"];
  out.metadata.main_metric_name = old ? "accuracy" : entries["main_metric_name"];
  double value = 0;
  bool valid = ParseNumber(entries["round"], &out.metadata.round) && out.metadata.round >= 0;
  valid = valid && ParseNumber(entries["density"], &out.density) && std::isfinite(out.density);
  if (!metric.empty()) {
    valid = valid && ParseNumber(metric, &value) && std::isfinite(value);
    out.metadata.main_metric = value;
  }
  std::string error;
  valid = valid && absl::ParseTime(absl::RFC3339_full, entries["create_time"],
                                   &out.metadata.create_time, &error);
  for (const std::string& own : format->entries) entries[own];
  if (!entries.missing().empty()) {
    return Invalid(fmt::format("the metadata entry {} is missing", entries.missing()));
  }
  if (!valid) {
    return Invalid("round, density, main_metric or create_time is malformed");
  }
  ESPALIER_RETURN_IF_ERROR(format->decode(strings, &out));
  return out;
}

}  // namespace espalier::checkpoint
