#include "server/jobs/pretrained.h"

#include <fmt/core.h>

#include <string>
#include <string_view>

#include "common/base/status.h"
#include "common/wire/model_spec/model_spec.h"
#include "server/pretrained/model_library.h"
#include "server/pretrained/same_network.h"

namespace espalier::server::jobs {
namespace {

constexpr char kField[] = "model.pretrained";
constexpr std::string_view kJobPrefix = "jobs/";

bool HasLayers(const v1::ModelSpec& model) {
  return !model.layers().empty() || !model.name().empty() || model.has_transformer() ||
         model.has_recommender();
}

// What is wrong with a network that is trained on; "" when nothing is.
std::string Misfit(const v1::ModelSpec& model, const checkpoint::CheckpointReader& reader) {
  if (reader.metadata().model_spec.has_recommender() || model.has_recommender()) {
    return "expected the checkpoint of a network of layers, found a recommender; train one with "
           "method dense and model.layers or model.name";
  }
  // What has no layout is reported elsewhere.
  const auto layout = wire::LayoutOf(model);
  if (!layout.ok()) return "";
  return std::string(base::MessageOf(pretrained::CheckDenseNetwork(**layout, reader)));
}

}  // namespace

void ResolvePretrained(const checkpoint::CheckpointStore& checkpoints, bool prunes,
                       v1::ModelSpec& model, std::vector<config::Violation>& violations) {
  const auto fail = [&](std::string text) { violations.push_back({kField, std::move(text)}); };
  std::string name = model.pretrained();
  if (name.empty()) return;
  if (prunes && HasLayers(model)) {
    return fail("a trained model has its own layers; remove layers, name and transformer");
  }
  if (name.starts_with(kJobPrefix)) {
    const auto kept = checkpoints.List(name.substr(kJobPrefix.size()));
    if (kept.empty() || name.size() == kJobPrefix.size()) {
      return fail(
          fmt::format("expected a job with a checkpoint, found '{}', which has none; see "
                      "`espalier checkpoint list`",
                      name));
    }
    name = kept.front().name;
  }
  if (!pretrained::IsCheckpointName(name)) return;
  const auto metadata = checkpoints.ReadMetadata(name);
  if (!metadata.ok()) return fail(std::string(base::MessageOf(metadata.status())));
  if (metadata->is_language_model || metadata->model_spec.has_transformer()) {
    if (!prunes) {
      return fail(
          "expected the checkpoint of a network of layers, found a language model; only methods "
          "that prune take one");
    }
    // Read from its file, block by block.
    return model.set_pretrained(name);
  }
  if (!HasLayers(model)) {
    v1::ModelSpec rest = model;
    rest.clear_pretrained();
    // Other fields beside it are a mistake that the job's validator reports.
    if (rest.ByteSizeLong() > 0) return;
    model = metadata->model_spec;
  }
  model.set_pretrained(name);
}

void CheckPretrainedNetwork(const checkpoint::CheckpointStore& checkpoints,
                            const v1::ModelSpec& model,
                            std::vector<config::Violation>& violations) {
  if (!pretrained::IsCheckpointName(model.pretrained())) return;
  const auto reader = checkpoints.OpenNetwork(model.pretrained());
  if (!reader.ok()) {
    violations.push_back({kField, base::MessageOf(reader.status())});
  } else if (std::string misfit = Misfit(model, **reader); !misfit.empty()) {
    violations.push_back({kField, std::move(misfit)});
  }
}

}  // namespace espalier::server::jobs
