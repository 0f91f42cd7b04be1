#include "common/config/validate_recommender.h"

#include <algorithm>

#include "common/wire/model_spec/recommender_layout.h"

namespace espalier::config {
namespace {

constexpr int64_t kMaxRows = 100'000'000;
constexpr int64_t kMaxDimensions = 4096;
constexpr int32_t kMaxGraphLayers = 8;
constexpr int kMaxHiddenLayers = 16;
constexpr int64_t kMaxHidden = 10'000;
constexpr int32_t kMaxNegatives = 100;
constexpr int64_t kMaxAutoencoderUnits = 100'000;
constexpr int32_t kMaxHeads = 64;
constexpr int32_t kMaxAttentionUnits = 1024;
constexpr int kMaxFields = 30;
constexpr size_t kMaxFieldName = 100;
constexpr int64_t kMaxAnnealSteps = 1'000'000'000;

// 0 stands for a default.
bool WholeOrUnset(const Checker& in, const char* field, int64_t value, int64_t high) {
  return value == 0 || in.Whole(field, value, 1, high);
}

bool NotNegative(const Checker& in, const char* field, double value) {
  return in.Number(field, value, value >= 0, "x ≥ 0");
}

bool CheckLightGcn(const v1::LightGcnModel& model, const Checker& in) {
  bool sized = WholeOrUnset(in, "dimensions", model.dimensions(), kMaxDimensions);
  if (model.has_layers()) in.Whole("layers", model.layers(), 0, kMaxGraphLayers);
  NotNegative(in, "l2", model.l2());
  NotNegative(in, "initial_deviation", model.initial_deviation());
  return sized;
}

bool CheckNeuMf(const v1::NeuMfModel& model, const Checker& in) {
  bool sized = WholeOrUnset(in, "dimensions", model.dimensions(), kMaxDimensions);
  for (int i = 0; i < std::min(model.hidden_size(), kMaxHiddenLayers); ++i) {
    sized &= in.Whole(fmt::format("hidden[{}]", i), model.hidden(i), 1, kMaxHidden);
  }
  in.Check(
      model.hidden_size() <= kMaxHiddenLayers, "hidden",
      fmt::format("expected at most {} layers, found {}", kMaxHiddenLayers, model.hidden_size()));
  in.Probability("dropout", model.dropout());
  WholeOrUnset(in, "negatives", model.negatives(), kMaxNegatives);
  NotNegative(in, "initial_deviation", model.initial_deviation());
  return sized && model.hidden_size() <= kMaxHiddenLayers;
}

bool CheckMultVae(const v1::MultVaeModel& model, const Checker& in) {
  bool sized = WholeOrUnset(in, "hidden", model.hidden(), kMaxAutoencoderUnits);
  sized &= WholeOrUnset(in, "latent", model.latent(), kMaxAutoencoderUnits);
  in.Probability("dropout", model.dropout());
  NotNegative(in, "kl_weight", model.kl_weight());
  if (model.has_anneal_steps()) in.Whole("anneal_steps", model.anneal_steps(), 0, kMaxAnnealSteps);
  return sized;
}

bool CheckAutoInt(const v1::AutoIntModel& model, const Checker& in) {
  bool sized = WholeOrUnset(in, "dimensions", model.dimensions(), kMaxDimensions);
  sized &= WholeOrUnset(in, "layers", model.layers(), wire::kMaxAttentionLayers);
  bool divided = WholeOrUnset(in, "heads", model.heads(), kMaxHeads);
  divided &= WholeOrUnset(in, "units", model.units(), kMaxAttentionUnits);
  if (divided) {
    const int heads = model.heads() == 0 ? 2 : model.heads();
    const int units = model.units() == 0 ? 64 : model.units();
    divided = units % heads == 0;
    in.Check(divided, "units",
             fmt::format("must be a multiple of heads ({}), found {}", heads, units));
  }
  in.Probability("dropout", model.dropout());
  WholeOrUnset(in, "negatives", model.negatives(), kMaxNegatives);
  NotNegative(in, "initial_deviation", model.initial_deviation());
  in.Check(model.fields_size() <= kMaxFields, "fields",
           fmt::format("expected at most {}, found {}", kMaxFields, model.fields_size()));
  for (int i = 0; i < std::min(model.fields_size(), kMaxFields); ++i) {
    const Checker field = in.In(fmt::format("fields[{}]", i));
    sized &= field.Whole("values", model.fields(i).values(), 1, kMaxRows);
    field.Check(model.fields(i).name().size() <= kMaxFieldName, "name",
                fmt::format("expected at most {} bytes, found {}", kMaxFieldName,
                            model.fields(i).name().size()));
  }
  return sized && divided && model.fields_size() <= kMaxFields;
}

void RefuseOtherFields(const v1::ModelSpec& model, const Checker& at) {
  const auto refuse = [&at](bool given, const char* field) {
    at.Check(!given, field, "does not go with a recommender; remove it, or recommender");
  };
  refuse(model.input_features() != 0, "input_features");
  refuse(!model.layers().empty(), "layers");
  refuse(model.loss() != v1::LOSS_UNSPECIFIED, "loss");
  refuse(model.input_dropout() != 0, "input_dropout");
  refuse(model.input_noise() != 0, "input_noise");
  refuse(model.has_input_image(), "input_image");
  refuse(!model.name().empty(), "name");
  refuse(model.has_parameters(), "parameters");
  refuse(model.has_transformer(), "transformer");
  refuse(model.dropout_scaling() != v1::DROPOUT_SCALING_UNSPECIFIED, "dropout_scaling");
}

}  // namespace

bool ValidateRecommender(const v1::ModelSpec& model, const Checker& at) {
  RefuseOtherFields(model, at);
  const v1::RecommenderSpec& recommender = model.recommender();
  const Checker in = at.In("recommender");
  bool sized = in.Whole("users", recommender.users(), 1, kMaxRows);
  sized &= in.Whole("items", recommender.items(), 2, kMaxRows);
  if (recommender.has_lightgcn()) {
    return CheckLightGcn(recommender.lightgcn(), in.In("lightgcn")) && sized;
  }
  if (recommender.has_neumf()) return CheckNeuMf(recommender.neumf(), in.In("neumf")) && sized;
  if (recommender.has_multvae()) {
    in.Check(!recommender.private_users(), "private_users",
             "multvae has no rows of users to keep; remove private_users");
    return CheckMultVae(recommender.multvae(), in.In("multvae")) && sized;
  }
  if (recommender.has_autoint()) {
    return CheckAutoInt(recommender.autoint(), in.In("autoint")) && sized;
  }
  in.Fail("lightgcn",
          "a recommender needs a kind: expected lightgcn, neumf, multvae or autoint, found none");
  return false;
}

}  // namespace espalier::config
