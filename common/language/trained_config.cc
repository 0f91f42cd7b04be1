#include "common/language/trained_config.h"

#include <google/protobuf/util/json_util.h>

#include "common/base/status.h"
#include "common/wire/model_spec/transformer.h"
#include "espalier/v1/data.pb.h"

namespace espalier::language {
namespace {

// Whether the metadata have `key`, and it is a message of that type.
template <typename Message>
bool ReadEntry(const std::map<std::string, std::string>& metadata, const std::string& key,
               Message& message) {
  const auto entry = metadata.find(key);
  return entry != metadata.end() &&
         google::protobuf::util::JsonStringToMessage(entry->second, &message).ok();
}

}  // namespace

bool IsTrained(const std::map<std::string, std::string>& metadata) {
  return !metadata.contains("config");
}

absl::StatusOr<TransformerConfig> ConfigOfCheckpoint(
    const std::map<std::string, std::string>& metadata) {
  if (const auto config = metadata.find("config"); config != metadata.end()) {
    return ParseTransformerConfig(config->second);
  }
  v1::ModelSpec model;
  if (!ReadEntry(metadata, "model_spec", model) || !model.has_transformer()) {
    return base::InvalidArgument(
        "NOT_A_LANGUAGE_MODEL",
        "expected the checkpoint of a language model, found another network or another file; only "
        "jobs with model.transformer, and those that prune a language model, write one");
  }
  v1::DataSpec data;
  const bool known = ReadEntry(metadata, "data_spec", data) && data.text().context() > 0;
  ESPALIER_ASSIGN_OR_RETURN(
      const TransformerConfig config,
      wire::ConfigOf(model.transformer(), known ? data.text().context() : kUnknownContext));
  // A file may say anything: what follows from it is checked like any config.json.
  return ParseTransformerConfig(config.json);
}

}  // namespace espalier::language
