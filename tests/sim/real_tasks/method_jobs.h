// Jobs of every method on every family of models, small enough to run to their ends.
//
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "espalier/v1/job.pb.h"
#include "server/methods/families/model_need.h"
#include "server/methods/program.h"
#include "tests/sim/real_tasks/real_fleet.h"

namespace espalier::test {

inline constexpr int kRounds = 4;

inline void UsePoints(v1::JobSpec& spec) {
  spec.mutable_data()->set_dataset("points");
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_IID);
  spec.mutable_data()->mutable_partition()->set_shards(2);
}

inline void AddLinear(v1::JobSpec& spec, int64_t units, v1::Activation activation) {
  v1::LinearLayer& layer = *spec.mutable_model()->add_layers()->mutable_linear();
  layer.set_units(units);
  layer.set_activation(activation);
}

inline v1::JobSpec Mlp() {
  v1::JobSpec spec;
  UsePoints(spec);
  spec.mutable_model()->set_input_features(16);
  AddLinear(spec, 12, v1::ACTIVATION_RELU);
  AddLinear(spec, 8, v1::ACTIVATION_RELU);
  AddLinear(spec, 3, v1::ACTIVATION_LINEAR);
  return spec;
}

inline v1::JobSpec Cnn() {
  v1::JobSpec spec;
  UsePoints(spec);
  v1::ModelSpec& model = *spec.mutable_model();
  model.mutable_input_image()->set_channels(1);
  model.mutable_input_image()->set_height(4);
  model.mutable_input_image()->set_width(4);
  model.add_layers()->mutable_conv2d()->set_channels(4);
  model.add_layers()->mutable_batch_norm()->set_activation(v1::ACTIVATION_RELU);
  AddLinear(spec, 8, v1::ACTIVATION_RELU);
  AddLinear(spec, 3, v1::ACTIVATION_LINEAR);
  return spec;
}

inline void UseText(v1::JobSpec& spec) {
  spec.mutable_data()->set_dataset("counting");
  spec.mutable_data()->mutable_text()->set_context(8);
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_IID);
  spec.mutable_data()->mutable_partition()->set_shards(2);
}

inline v1::JobSpec Transformer() {
  v1::JobSpec spec;
  UseText(spec);
  v1::TransformerSpec& model = *spec.mutable_model()->mutable_transformer();
  model.set_vocabulary(64);
  model.set_hidden(8);
  model.set_blocks(1);
  model.set_heads(2);
  return spec;
}

inline v1::JobSpec LanguageModel() {
  v1::JobSpec spec;
  UseText(spec);
  spec.mutable_model()->set_pretrained("tiny");
  return spec;
}

inline v1::JobSpec Recommender(const std::function<void(v1::RecommenderSpec&)>& choose) {
  v1::JobSpec spec;
  spec.mutable_data()->set_dataset("likes");
  spec.mutable_data()->mutable_interactions()->set_split(v1::Interactions::SPLIT_RATIO);
  spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_USERS);
  spec.mutable_data()->mutable_partition()->set_shards(2);
  v1::RecommenderSpec& model = *spec.mutable_model()->mutable_recommender();
  model.set_users(kUsers);
  model.set_items(kItems);
  choose(model);
  spec.mutable_evaluation()->add_top_k(5);
  return spec;
}

inline v1::JobSpec LightGcn(bool private_users) {
  return Recommender([&](v1::RecommenderSpec& model) {
    model.set_private_users(private_users);
    model.mutable_lightgcn()->set_dimensions(6);
    model.mutable_lightgcn()->set_layers(1);
    model.mutable_lightgcn()->set_initial_deviation(0.1);
  });
}

inline v1::JobSpec NeuMf() {
  return Recommender([](v1::RecommenderSpec& model) {
    model.mutable_neumf()->set_dimensions(6);
    model.mutable_neumf()->add_hidden(6);
  });
}

inline v1::JobSpec MultVae() {
  return Recommender([](v1::RecommenderSpec& model) {
    model.mutable_multvae()->set_hidden(10);
    model.mutable_multvae()->set_latent(4);
  });
}

inline v1::JobSpec AutoInt() {
  return Recommender([](v1::RecommenderSpec& model) {
    model.mutable_autoint()->set_dimensions(6);
    model.mutable_autoint()->set_layers(1);
    model.mutable_autoint()->set_units(4);
  });
}

// One of each family, and one whose rows of users stay on workers.
inline std::vector<v1::JobSpec> Families() {
  return {Mlp(),          Cnn(),   Transformer(), LanguageModel(), LightGcn(false),
          LightGcn(true), NeuMf(), MultVae(),     AutoInt()};
}

// Parameters with which a method does within four rounds all that it can do.
inline void UseMethod(const server::methods::MethodDeclaration& method, v1::JobSpec& spec) {
  spec.mutable_method()->set_name(method.name);
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  const std::map<std::string, int64_t> wholes = {{"update_every", method.name == "prunefl" ? 2 : 1},
                                                 {"evolve_every", 1},
                                                 {"end_round", 3},
                                                 {"stop_round", 4},
                                                 {"blocks", 1},
                                                 {"pool_size", 2},
                                                 {"passes", 1},
                                                 {"initial_adjustments", 1},
                                                 {"initial_updates", 2},
                                                 {"initial_sum", 1},
                                                 {"iterations", 5},
                                                 {"features", 5},
                                                 {"levels", 2},
                                                 {"rewind_round", 1}};
  for (const config::Parameter& parameter : method.parameters) {
    if (parameter.name == "density" && method.name != "prunefl") {
      parameters["density"].set_double_value(0.5);
    }
    if (const auto it = wholes.find(parameter.name); it != wholes.end()) {
      parameters[parameter.name].set_int_value(it->second);
    }
  }
}

// What a method asks of a model and its data beside the family.
inline void SuitModel(const server::methods::MethodDeclaration& method, v1::JobSpec& spec) {
  if (method.name != "quick-selection" ||
      !server::methods::FamilyOf(spec.model()).Offers(wire::ModelNeed::kInputWeights)) {
    return;
  }
  spec.mutable_data()->set_target(v1::DataSpec::TARGET_INPUT);
  spec.mutable_data()->set_label_column("16");
  v1::ModelSpec& model = *spec.mutable_model();
  model.mutable_layers(model.layers_size() - 1)
      ->mutable_linear()
      ->set_units(model.input_features());
}

// What prunes names a trained model and says nothing else of it.
inline void NameAlone(v1::JobSpec& spec) {
  const std::string trained = spec.model().pretrained();
  spec.clear_model();
  spec.mutable_model()->set_pretrained(trained);
  spec.clear_evaluation();
}

inline void UseTraining(v1::JobSpec& spec) {
  spec.mutable_training()->set_batch_size(16);
  spec.mutable_training()->set_local_steps(3);
  spec.mutable_federation()->set_rounds(kRounds);
  const bool is_private = spec.model().recommender().private_users();
  spec.mutable_evaluation()->set_central(!is_private);
  spec.mutable_evaluation()->set_federated(is_private);
  spec.mutable_evaluation()->set_every_rounds(2);
  spec.set_seed(3);
}

}  // namespace espalier::test
