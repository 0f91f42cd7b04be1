// The rules of transformers.
#include "common/base/status.h"
#include "common/config/families/rules.h"
#include "common/config/validate_model.h"
#include "common/wire/model_spec/layer_descriptor.h"
#include "common/wire/model_spec/named_models.h"
#include "common/wire/model_spec/transformer.h"

namespace espalier::config {
namespace {

constexpr int64_t kMaxVocabulary = 1'000'000;
constexpr int64_t kMaxHidden = 65'536;
constexpr int64_t kMaxIntermediate = 1'000'000;
constexpr int32_t kMaxHeads = 1024;

// A transformer that is described by a config.json.
void ValidateConfig(const v1::ModelSpec& model, const v1::MethodSpec& method, const Checker& at) {
  const Checker in = at.In("transformer");
  v1::TransformerSpec rest = model.transformer();
  rest.clear_config_json();
  rest.clear_dense_attention();
  in.Check(rest.ByteSizeLong() == 0, "config_json",
           "says the whole model: of the other fields only dense_attention goes with it; remove "
           "the others, or config_json");
  const auto config = wire::ConfigOf(model.transformer(), 1);
  if (!config.ok()) return in.Fail("config_json", base::MessageOf(config.status()));
  bool sized = in.Whole("vocabulary", config->vocabulary, 2, kMaxVocabulary);
  sized &= in.Whole("hidden", config->hidden, 2, kMaxHidden);
  sized &= in.Whole("blocks", config->blocks, 1, wire::kMaxBlocks);
  sized &= in.Whole("heads", config->heads, 1, kMaxHeads);
  sized &= in.Whole("intermediate", config->intermediate, 1, kMaxIntermediate);
  if (sized) ValidateSize(model, method, "transformer", at);
}

// One that is described by its fields or by a config.json.
void ValidateTransformer(const v1::ModelSpec& model, const v1::MethodSpec& method,
                         const Checker& at) {
  at.Check(model.layers().empty() && model.name().empty() && !model.has_parameters() &&
               !model.has_input_image() && model.input_features() == 0 &&
               model.input_dropout() == 0 && model.input_noise() == 0,
           "transformer",
           "is a whole model: remove layers, name, parameters, input_features, input_image, "
           "input_dropout and input_noise");
  at.Check(model.loss() == v1::LOSS_UNSPECIFIED || model.loss() == v1::LOSS_CROSS_ENTROPY, "loss",
           "a transformer predicts the next token by cross_entropy; remove loss");
  const v1::TransformerSpec& given = model.transformer();
  if (!given.config_json().empty()) return ValidateConfig(model, method, at);
  const v1::TransformerSpec spec = wire::ExplicitTransformer(given);
  const Checker in = at.In("transformer");
  bool sized = in.Whole("vocabulary", spec.vocabulary(), 2, kMaxVocabulary);
  sized &= in.Whole("hidden", spec.hidden(), 2, kMaxHidden);
  sized &= in.Whole("blocks", spec.blocks(), 1, wire::kMaxBlocks);
  sized &= in.Whole("heads", spec.heads(), 1, kMaxHeads);
  sized &= in.Whole("kv_heads", spec.kv_heads(), 1, kMaxHeads);
  sized &= in.Whole("intermediate", spec.intermediate(), 1, kMaxIntermediate);
  in.Number("norm_epsilon", given.norm_epsilon(),
            given.norm_epsilon() >= 0 && given.norm_epsilon() <= 1, "0 < x ≤ 1");
  in.Number("rope_theta", given.rope_theta(),
            given.rope_theta() == 0 || (given.rope_theta() > 1 && given.rope_theta() <= 1e12),
            "x > 1");
  if (!sized) return;
  const bool whole = spec.hidden() % spec.heads() == 0 && spec.hidden() / spec.heads() % 2 == 0;
  in.Check(whole, "heads",
           fmt::format("hidden / heads must be an even whole number, found {} / {}", spec.hidden(),
                       spec.heads()));
  in.Check(spec.heads() % spec.kv_heads() == 0, "kv_heads",
           fmt::format("must divide heads, found {} and {}", spec.kv_heads(), spec.heads()));
  if (whole) ValidateSize(model, method, "transformer", at);
}

class Transformer : public FamilyRules {
 public:
  void ValidateModel(const v1::ModelSpec& given, const v1::MethodSpec& method,
                     const Checker& at) const override {
    at.Probability("input_dropout", given.input_dropout());
    ValidateTransformer(given, method, at);
  }
  void ValidateText(const v1::DataSpec& data, const v1::ModelSpec& model,
                    const Checker& at) const override {
    if (!data.has_text()) {
      return at.Fail("text", "a transformer learns from text; set data.text: {context: …}");
    }
    // Of a transformer that its fields describe, positions have no end.
    const auto config = wire::ConfigOf(model.transformer(), kMaxContext);
    const int64_t context = data.text().context();
    if (!config.ok()) return;
    at.In("text").Check(context <= config->context, "context",
                        fmt::format("must be at most {}, the model's most positions, found {}",
                                    Grouped(config->context), Grouped(context)));
  }
  TargetKind TargetOf(const v1::DataSpec&) const override { return TargetKind::kToken; }
  void ApplyModelDefaults(v1::ModelSpec& model) const override {
    model = wire::ExplicitModel(model);
    wire::ApplyLayerDefaults(*model.mutable_layers());
    *model.mutable_transformer() = wire::ExplicitTransformer(model.transformer());
    ApplyNetworkDefaults(model);
  }
};

}  // namespace

const FamilyRules& TransformerRules() {
  static const Transformer rules;
  return rules;
}

}  // namespace espalier::config
