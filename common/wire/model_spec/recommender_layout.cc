#include "common/wire/model_spec/recommender_layout.h"

#include <cmath>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/tensor/model_layout.h"

namespace espalier::wire {
namespace {

constexpr double kEmbeddingDeviation = 0.01;

void ApplyDefaults(v1::LightGcnModel& model, double nodes) {
  if (model.dimensions() == 0) model.set_dimensions(64);
  if (!model.has_layers()) model.set_layers(3);
  if (!model.has_l2()) model.set_l2(1e-4);
  if (model.initial_deviation() == 0) {
    model.set_initial_deviation(std::sqrt(2 / (nodes + static_cast<double>(model.dimensions()))));
  }
}

void ApplyDefaults(v1::NeuMfModel& model) {
  if (model.dimensions() == 0) model.set_dimensions(16);
  if (model.hidden().empty()) {
    for (const int32_t units : {32, 16, 8}) model.add_hidden(units);
  }
  if (!model.has_dropout()) model.set_dropout(0.2);
  if (model.negatives() == 0) model.set_negatives(4);
  if (model.initial_deviation() == 0) model.set_initial_deviation(kEmbeddingDeviation);
}

void ApplyDefaults(v1::AutoIntModel& model) {
  if (model.dimensions() == 0) model.set_dimensions(16);
  if (model.layers() == 0) model.set_layers(3);
  if (model.heads() == 0) model.set_heads(2);
  if (model.units() == 0) model.set_units(64);
  if (!model.has_dropout()) model.set_dropout(0.1);
  if (model.negatives() == 0) model.set_negatives(4);
  if (model.initial_deviation() == 0) model.set_initial_deviation(kEmbeddingDeviation);
}

void ApplyDefaults(v1::MultVaeModel& model) {
  if (model.hidden() == 0) model.set_hidden(600);
  if (model.latent() == 0) model.set_latent(200);
  if (!model.has_dropout()) model.set_dropout(0.5);
  if (!model.has_kl_weight()) model.set_kl_weight(0.2);
  if (!model.has_anneal_steps()) model.set_anneal_steps(200'000);
}

class TensorList {
 public:
  absl::Status AddTable(std::string name, std::vector<int64_t> shape, bool sparsifiable,
                        double deviation, bool user_rows = false, int64_t positions = 0) {
    ESPALIER_ASSIGN_OR_RETURN(tensor::TensorSpec spec,
                              tensor::CheckedTensor(std::move(name), std::move(shape)));
    spec.sparsifiable = sparsifiable;
    tensors_.push_back({.spec = std::move(spec),
                        .role = TensorRole::kWeight,
                        .initializer = v1::INITIALIZER_GLOROT,
                        .positions = positions,
                        .deviation = deviation,
                        .user_rows = user_rows});
    return absl::OkStatus();
  }

  // `positions` as in ModelTensor, here and below.
  // <name><matrix> of outputs × inputs, and <name>.bias of `biases`.
  absl::Status AddLinear(const std::string& name, const char* matrix, int64_t rows, int64_t cols,
                         int64_t biases, bool sparsifiable, int64_t positions = 1) {
    ESPALIER_RETURN_IF_ERROR(
        AddTable(name + matrix, {rows, cols}, sparsifiable, 0, false, positions));
    ESPALIER_ASSIGN_OR_RETURN(tensor::TensorSpec spec,
                              tensor::CheckedTensor(name + ".bias", {biases}));
    tensors_.push_back({.spec = std::move(spec), .role = TensorRole::kBias});
    return absl::OkStatus();
  }

  ModelTensor& last_weight() { return tensors_[tensors_.size() - 2]; }
  std::vector<ModelTensor> Take() { return std::move(tensors_); }

 private:
  std::vector<ModelTensor> tensors_;
};

absl::Status AddShared(const v1::NeuMfModel& model, int64_t items, TensorList& list) {
  const double deviation = model.initial_deviation();
  const int64_t dimensions = model.dimensions();
  ESPALIER_RETURN_IF_ERROR(
      list.AddTable("gmf.item_embeddings", {items, dimensions}, false, deviation));
  ESPALIER_RETURN_IF_ERROR(
      list.AddTable("mlp.item_embeddings", {items, dimensions}, true, deviation));
  int64_t inputs = 2 * dimensions;
  const int64_t pairs = 1 + model.negatives();
  for (int i = 0; i < model.hidden_size(); ++i) {
    const int64_t units = model.hidden(i);
    ESPALIER_RETURN_IF_ERROR(
        list.AddLinear("mlp." + std::to_string(i), ".weight", units, inputs, units, false, pairs));
    inputs = units;
  }
  return list.AddLinear("prediction", ".weight", 1, dimensions + inputs, 1, false, pairs);
}

absl::Status AddShared(const v1::MultVaeModel& model, int64_t items, TensorList& list) {
  const int64_t hidden = model.hidden();
  const int64_t latent = model.latent();
  ESPALIER_RETURN_IF_ERROR(list.AddLinear("encoder.items", "", items, hidden, hidden, true, 0));
  list.last_weight().looked_up = true;
  ESPALIER_RETURN_IF_ERROR(
      list.AddLinear("encoder.latent", "", 2 * latent, hidden, 2 * latent, true));
  ESPALIER_RETURN_IF_ERROR(list.AddLinear("decoder.hidden", "", hidden, latent, hidden, true));
  return list.AddLinear("decoder.items", "", items, hidden, items, true);
}

absl::Status AddShared(const v1::AutoIntModel& model, int64_t items, TensorList& list) {
  const double deviation = model.initial_deviation();
  ESPALIER_RETURN_IF_ERROR(
      list.AddTable("item_embeddings", {items, model.dimensions()}, true, deviation));
  for (int i = 0; i < model.fields_size(); ++i) {
    ESPALIER_RETURN_IF_ERROR(list.AddTable("fields." + std::to_string(i) + ".embeddings",
                                           {model.fields(i).values(), model.dimensions()}, true,
                                           deviation));
  }
  if (model.layers() > kMaxAttentionLayers) {
    return base::InvalidArgument("SHAPE_OUT_OF_RANGE",
                                 "expected at most " + std::to_string(kMaxAttentionLayers) +
                                     " attention layers, found " + std::to_string(model.layers()));
  }
  int64_t inputs = model.dimensions();
  const int64_t pairs = 1 + model.negatives();
  const int64_t fields = model.fields_size() + 2;
  for (int l = 0; l < model.layers(); ++l) {
    ESPALIER_RETURN_IF_ERROR(list.AddTable("attention." + std::to_string(l) + ".weight",
                                           {int64_t{4} * model.units(), inputs}, false, 0, false,
                                           fields * pairs));
    inputs = model.units();
  }
  return list.AddLinear("output", ".weight", 1, fields * inputs, 1, false, pairs);
}

absl::Status AddUsers(const v1::RecommenderSpec& model, int64_t users, TensorList& list) {
  if (model.has_autoint()) {
    return list.AddTable("user_embeddings", {users, model.autoint().dimensions()}, true,
                         model.autoint().initial_deviation(), true);
  }
  if (model.has_lightgcn()) {
    return list.AddTable("user_embeddings", {users, model.lightgcn().dimensions()}, true,
                         model.lightgcn().initial_deviation(), true);
  }
  if (!model.has_neumf()) return absl::OkStatus();
  const v1::NeuMfModel& neumf = model.neumf();
  const std::vector<int64_t> shape = {users, neumf.dimensions()};
  ESPALIER_RETURN_IF_ERROR(
      list.AddTable("gmf.user_embeddings", shape, false, neumf.initial_deviation(), true));
  return list.AddTable("mlp.user_embeddings", shape, true, neumf.initial_deviation(), true);
}

}  // namespace

v1::RecommenderSpec ExplicitRecommender(const v1::RecommenderSpec& spec) {
  v1::RecommenderSpec model = spec;
  if (model.has_lightgcn()) {
    ApplyDefaults(*model.mutable_lightgcn(),
                  static_cast<double>(model.users()) + static_cast<double>(model.items()));
  }
  if (model.has_neumf()) ApplyDefaults(*model.mutable_neumf());
  if (model.has_multvae()) ApplyDefaults(*model.mutable_multvae());
  if (model.has_autoint()) ApplyDefaults(*model.mutable_autoint());
  return model;
}

absl::StatusOr<std::vector<ModelTensor>> RecommenderTensors(const v1::RecommenderSpec& spec) {
  const v1::RecommenderSpec model = ExplicitRecommender(spec);
  TensorList list;
  if (model.has_lightgcn()) {
    const v1::LightGcnModel& lightgcn = model.lightgcn();
    ESPALIER_RETURN_IF_ERROR(list.AddTable("item_embeddings",
                                           {model.items(), lightgcn.dimensions()}, true,
                                           lightgcn.initial_deviation()));
  } else if (model.has_neumf()) {
    ESPALIER_RETURN_IF_ERROR(AddShared(model.neumf(), model.items(), list));
  } else if (model.has_multvae()) {
    ESPALIER_RETURN_IF_ERROR(AddShared(model.multvae(), model.items(), list));
  } else if (model.has_autoint()) {
    ESPALIER_RETURN_IF_ERROR(AddShared(model.autoint(), model.items(), list));
  } else {
    return base::InvalidArgument(
        "UNKNOWN_MODEL",
        "a recommender needs a kind: expected lightgcn, neumf, multvae or autoint, "
        "found none; it may need a newer version of this program");
  }
  if (!model.private_users()) ESPALIER_RETURN_IF_ERROR(AddUsers(model, model.users(), list));
  return list.Take();
}

absl::StatusOr<std::vector<ModelTensor>> UserTensors(const v1::RecommenderSpec& spec,
                                                     int64_t users) {
  TensorList list;
  ESPALIER_RETURN_IF_ERROR(AddUsers(ExplicitRecommender(spec), users, list));
  return list.Take();
}

}  // namespace espalier::wire
