#include "server/jobs/draft/pretrained.h"

#include <fmt/core.h>
#include <google/protobuf/util/message_differencer.h>

#include <string>
#include <string_view>
#include <utility>

#include "common/base/status.h"
#include "common/wire/model_spec/families/model_family.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/model_spec.h"
#include "common/wire/model_spec/transformer.h"
#include "server/pretrained/same_network.h"

namespace espalier::server::jobs {
namespace {

constexpr char kField[] = "model.pretrained";
constexpr std::string_view kJobPrefix = "jobs/";

// Whether the job says what its model is, beside the name of a trained one.
bool IsDescribed(const v1::ModelSpec& model) {
  return wire::FamilyOf(model).form() != wire::ModelForm::kInParts;
}

// The checkpoint that "jobs/{job}" stands for; other names as they are.
absl::StatusOr<std::string> NewestOf(const checkpoint::CheckpointStore& checkpoints,
                                     const std::string& name) {
  if (!name.starts_with(kJobPrefix)) return name;
  const auto kept = checkpoints.List(name.substr(kJobPrefix.size()));
  if (!kept.empty() && name.size() > kJobPrefix.size()) return kept.front().name;
  return base::NotFound("CHECKPOINT_NOT_FOUND",
                        fmt::format("expected a job with a checkpoint, found '{}', which has none; "
                                    "see `espalier checkpoint list`",
                                    name));
}

// The transformer of the language model of that name. `trained`: what its checkpoint says of it, if
// anything; else its file does.
absl::StatusOr<v1::TransformerSpec> TransformerOf(const pretrained::ModelLibrary* library,
                                                  const std::string& name,
                                                  const v1::ModelSpec& trained) {
  if (trained.has_transformer()) return trained.transformer();
  if (library == nullptr) {
    return base::FailedPrecondition(
        "MODELS_UNSET", fmt::format("expected a coordinator with trained models, found none for "
                                    "'{}'; start it with --models DIR",
                                    name));
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto reader, library->OpenLanguageModel(name));
  v1::TransformerSpec transformer;
  transformer.set_config_json(reader->config().json);
  return transformer;
}

// Puts a language model's transformer into a job that trains it. The job may say which part of it
// stays dense, or repeat all of it.
void TakeTransformer(v1::TransformerSpec transformer, v1::ModelSpec& model,
                     std::vector<config::Violation>& violations) {
  if (!model.has_transformer()) {
    *model.mutable_transformer() = std::move(transformer);
    return;
  }
  v1::TransformerSpec given = model.transformer();
  transformer.set_dense_attention(given.dense_attention());
  v1::TransformerSpec alone;
  alone.set_dense_attention(given.dense_attention());
  using google::protobuf::util::MessageDifferencer;
  const bool repeats = MessageDifferencer::Equals(given, alone) ||
                       MessageDifferencer::Equals(wire::ExplicitTransformer(given),
                                                  wire::ExplicitTransformer(transformer));
  if (!repeats) {
    violations.push_back({"model.transformer",
                          "the trained model says what it is: of the fields here only "
                          "dense_attention goes with model.pretrained; remove the others"});
    return;
  }
  *model.mutable_transformer() = std::move(transformer);
}

// The layers of a checkpoint, unless the job has its own.
void TakeLayers(const v1::ModelSpec& trained, const std::string& name, v1::ModelSpec& model) {
  if (!IsDescribed(model)) {
    v1::ModelSpec rest = model;
    rest.clear_pretrained();
    // Other fields beside it are a mistake that the job's validator reports.
    if (rest.ByteSizeLong() > 0) return;
    model = trained;
  }
  model.set_pretrained(name);
}

absl::Status CheckModel(const checkpoint::CheckpointStore& checkpoints,
                        const pretrained::ModelLibrary* library, bool dense,
                        const v1::ModelSpec& model) {
  const std::string& name = model.pretrained();
  if (wire::FamilyOf(model).comes_in_folders()) {
    if (library == nullptr) return absl::OkStatus();
    ESPALIER_ASSIGN_OR_RETURN(const auto reader, library->OpenLanguageModel(name));
    return dense ? pretrained::CheckDenseLanguageModel(model.transformer(), *reader)
                 : pretrained::CheckLanguageModel(model.transformer(), *reader);
  }
  ESPALIER_ASSIGN_OR_RETURN(const auto reader, checkpoints.OpenNetwork(name));
  const auto can_begin = [](const v1::ModelSpec& spec) {
    return wire::FamilyOf(spec).Offers(wire::ModelNeed::kTrainedStart);
  };
  if (!can_begin(reader->metadata().model_spec) || !can_begin(model)) {
    return base::InvalidArgument(
        "OTHER_NETWORK",
        "expected the checkpoint of a network of layers or of a language model, found a "
        "recommender; remove model.pretrained");
  }
  // What has no layout is reported elsewhere.
  const auto layout = wire::LayoutOf(model);
  if (!layout.ok()) return absl::OkStatus();
  return dense ? pretrained::CheckDenseNetwork(**layout, *reader)
               : pretrained::CheckNetwork(**layout, *reader);
}

}  // namespace

void ResolvePretrained(const checkpoint::CheckpointStore& checkpoints,
                       const pretrained::ModelLibrary* library, bool prunes, v1::ModelSpec& model,
                       std::vector<config::Violation>& violations) {
  if (model.pretrained().empty()) return;
  const auto fail = [&](std::string text) { violations.push_back({kField, std::move(text)}); };
  if (prunes && IsDescribed(model)) {
    return fail("a trained model has its own layers; remove layers, name and transformer");
  }
  const auto name = NewestOf(checkpoints, model.pretrained());
  if (!name.ok()) return fail(std::string(base::MessageOf(name.status())));
  v1::ModelSpec trained;
  if (pretrained::IsCheckpointName(*name)) {
    auto read = checkpoints.ReadMetadata(*name);
    if (!read.ok()) return fail(std::string(base::MessageOf(read.status())));
    trained = std::move(read->model_spec);
    const bool language = read->kind == espalier::checkpoint::CheckpointKind::kLanguageModel ||
                          wire::FamilyOf(trained).comes_in_folders();
    // Models have a pattern only while n-of-m trains them.
    if (wire::AnyLayer(trained.layers(), [](const v1::Layer& layer) {
          return layer.linear().has_n_of_m() || layer.conv2d().has_n_of_m();
        })) {
      return fail(
          "expected the model that a job of method n-of-m ended with, found one from "
          "within it, whose weights are all there still; name the job's last checkpoint");
    }
    if (!language) return TakeLayers(trained, *name, model);
  }
  // A model in parts is read from its file, block by block. A name beside layers is a mistake that
  // the registry of methods reports.
  if (!prunes && wire::FamilyOf(model).comes_in_folders()) {
    auto transformer = TransformerOf(library, *name, trained);
    if (!transformer.ok()) return fail(std::string(base::MessageOf(transformer.status())));
    TakeTransformer(*std::move(transformer), model, violations);
  }
  model.set_pretrained(*name);
}

void CheckPretrainedModel(const checkpoint::CheckpointStore& checkpoints,
                          const pretrained::ModelLibrary* library, bool dense,
                          const v1::ModelSpec& model, std::vector<config::Violation>& violations) {
  if (model.pretrained().empty()) return;
  const absl::Status status = CheckModel(checkpoints, library, dense, model);
  if (!status.ok()) violations.push_back({kField, std::string(base::MessageOf(status))});
}

}  // namespace espalier::server::jobs
