#include "common/config/families/family_rules.h"

#include <algorithm>

#include "common/config/families/rules.h"
#include "common/wire/model_spec/families/model_family.h"
#include "common/wire/model_spec/shapes.h"

namespace espalier::config {
namespace {

// Two numbers for each travel with every task.
constexpr int64_t kMaxChannels = 10'000;

void ValidateChannels(const v1::DataSpec& data, const v1::ModelSpec& model, bool has_channels,
                      const Checker& at) {
  if (at.Enum("normalization", v1::DataSpec::Normalization_IsValid(data.normalization()),
              data.normalization()) &&
      data.normalization() == v1::DataSpec::NORMALIZATION_FEDERATED) {
    at.Check(
        has_channels, "normalization",
        "federated measures channels of images and columns of tables; remove it, or use given");
    at.Check(wire::InputShape(model).channels <= kMaxChannels, "normalization",
             fmt::format("federated measures at most {} columns, found {}; scale them in the file",
                         Grouped(kMaxChannels), Grouped(wire::InputShape(model).channels)));
    at.Check(data.channel_mean().empty() && data.channel_std().empty() && data.mean() == 0 &&
                 (data.std() == 0 || data.std() == 1),
             "normalization",
             "federated fills in channel_mean and channel_std; remove them, and mean and std");
    return;
  }
  if (data.channel_mean().empty() && data.channel_std().empty()) return;
  const int64_t channels = wire::InputShape(model).channels;
  const auto check = [&](const std::string& field, const auto& values, bool positive) {
    at.Check(
        values.size() == channels, field,
        fmt::format(
            "expected {} numbers, one for each channel of images or input of a table, found {}",
            channels, values.size()));
    for (int i = 0; i < values.size(); ++i) {
      at.Number(fmt::format("{}[{}]", field, i), values[i], !positive || values[i] > 0,
                positive ? "x > 0" : "a finite number");
    }
  };
  check("channel_mean", data.channel_mean(), false);
  check("channel_std", data.channel_std(), true);
  at.Check(data.mean() == 0, "mean", "channel_mean takes its place; remove one of them");
  at.Check(data.std() == 0 || data.std() == 1, "std",
           "channel_std takes its place; remove one of them");
}

void ValidateAugmentation(const v1::Augmentation& augmentation, const v1::ModelSpec& model,
                          const Checker& at) {
  if (augmentation.crop_padding() == 0 && !augmentation.horizontal_flip()) return;
  if (!model.has_input_image()) {
    return at.Fail("crop_padding",
                   "only images can be changed; set model.input_image, or remove augmentation");
  }
  const int64_t side = std::min(model.input_image().height(), model.input_image().width());
  at.Whole("crop_padding", augmentation.crop_padding(), 0, std::max<int64_t>(side - 1, 0));
}

}  // namespace

void FamilyRules::ValidateText(const v1::DataSpec&, const v1::ModelSpec&, const Checker&) const {}

void FamilyRules::ValidateInputs(const v1::DataSpec& data, const v1::ModelSpec& model,
                                 bool has_shapes, const Checker& at) const {
  ValidateChannels(data, model, has_channels(), at);
  if (has_shapes) ValidateAugmentation(data.augmentation(), model, at.In("augmentation"));
}

void FamilyRules::ValidateInteractions(const v1::JobSpec& spec, const Checker& root) const {
  const auto refuse = [&](bool given, const char* path, const char* field) {
    root.In(path).Check(!given, field, "goes with model.recommender only; remove it");
  };
  refuse(spec.data().has_interactions(), "data", "interactions");
  refuse(spec.data().partition().kind() == v1::Partition::KIND_USERS, "data.partition", "kind");
  refuse(!spec.evaluation().top_k().empty(), "evaluation", "top_k");
  refuse(spec.training().optimizer().lazy_rows(), "training.optimizer", "lazy_rows");
  refuse(spec.evaluation().candidates() != 0, "evaluation", "candidates");
}

TargetKind FamilyRules::TargetOf(const v1::DataSpec& data) const {
  if (data.has_text()) return TargetKind::kToken;
  switch (data.target()) {
    case v1::DataSpec::TARGET_LABELS:
      return TargetKind::kLabels;
    case v1::DataSpec::TARGET_VALUES:
      return TargetKind::kValues;
    case v1::DataSpec::TARGET_INPUT:
      return TargetKind::kInput;
    default:
      return TargetKind::kClass;
  }
}

void FamilyRules::ApplyJobDefaults(v1::JobSpec&) const {}

void FamilyRules::AssumeSizes(v1::ModelSpec&) const {}

const FamilyRules& RulesOf(const v1::ModelSpec& model) {
  switch (wire::FamilyOf(model).form()) {
    case wire::ModelForm::kTransformer:
      return TransformerRules();
    case wire::ModelForm::kRecommender:
      return RecommenderRules();
    case wire::ModelForm::kInParts:
      return PretrainedRules();
    case wire::ModelForm::kLayers:
      break;
  }
  return LayersRules();
}

}  // namespace espalier::config
