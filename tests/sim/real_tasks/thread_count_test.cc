// The model that a job ends with is the same to the last bit whatever the number of threads of its
// workers, for every kind of model, dense and sparse. Layers are large enough that their products
// are computed in several parts.
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "tests/sim/simulation.h"
#include "tests/support/language_model.h"
#include "tests/support/real_worker.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::test {
namespace {

constexpr int kThreads[] = {2, 3, 8};
constexpr int kSide = 12;
constexpr int kUsers = 200;
constexpr int kItems = 300;

const worker::data::DataFolder& Data() {
  static const auto* folder = [] {
    auto* made = new worker::data::DataFolder();
    std::string points;
    for (int row = 0; row < 150; ++row) {
      for (int column = 0; column < kSide * kSide; ++column) {
        points += std::to_string((row * 7 + column * (1 + row % 3)) % 11 * 0.1) + ",";
      }
      points += std::to_string(row % 3) + "\n";
    }
    made->Write("points/train.csv", points);
    std::string likes;
    for (int user = 0; user < kUsers; ++user) {
      likes += std::to_string(user);
      for (int item = user % 7; item < kItems; item += 7) likes += " " + std::to_string(item);
      likes += "\n";
    }
    made->Write("likes/train.txt", likes);
    std::string text;
    for (int number = 10000; number < 13000; ++number) text += std::to_string(number) + "\n";
    made->Write("counting/train.txt", text);
    return made;
  }();
  return *folder;
}

v1::JobSpec OnData(const std::string& dataset, v1::Partition::Kind kind) {
  v1::JobSpec spec;
  spec.mutable_data()->set_dataset(dataset);
  spec.mutable_data()->mutable_partition()->set_kind(kind);
  spec.mutable_data()->mutable_partition()->set_shards(1);
  return spec;
}

void AddLinear(v1::JobSpec& spec, int64_t units, v1::Activation activation) {
  v1::LinearLayer& layer = *spec.mutable_model()->add_layers()->mutable_linear();
  layer.set_units(units);
  layer.set_activation(activation);
}

v1::JobSpec Mlp() {
  v1::JobSpec spec = OnData("points", v1::Partition::KIND_IID);
  spec.mutable_model()->set_input_features(kSide * kSide);
  AddLinear(spec, 700, v1::ACTIVATION_RELU);
  AddLinear(spec, 500, v1::ACTIVATION_RELU);
  AddLinear(spec, 3, v1::ACTIVATION_LINEAR);
  return spec;
}

v1::JobSpec Cnn() {
  v1::JobSpec spec = OnData("points", v1::Partition::KIND_IID);
  v1::ModelSpec& model = *spec.mutable_model();
  model.mutable_input_image()->set_channels(1);
  model.mutable_input_image()->set_height(kSide);
  model.mutable_input_image()->set_width(kSide);
  model.add_layers()->mutable_conv2d()->set_channels(16);
  model.add_layers()->mutable_batch_norm()->set_activation(v1::ACTIVATION_RELU);
  model.add_layers()->mutable_conv2d()->set_channels(24);
  AddLinear(spec, 300, v1::ACTIVATION_RELU);
  AddLinear(spec, 3, v1::ACTIVATION_LINEAR);
  return spec;
}

v1::JobSpec OnText() {
  v1::JobSpec spec = OnData("counting", v1::Partition::KIND_IID);
  spec.mutable_data()->mutable_text()->set_context(64);
  return spec;
}

v1::JobSpec Transformer() {
  v1::JobSpec spec = OnText();
  v1::TransformerSpec& model = *spec.mutable_model()->mutable_transformer();
  model.set_vocabulary(64);
  model.set_hidden(96);
  model.set_blocks(1);
  model.set_heads(4);
  return spec;
}

// LayerNorm, biases, learned positions, GELU and one weight for query, key and value.
v1::JobSpec Gpt2() {
  v1::JobSpec spec = OnText();
  spec.mutable_model()->mutable_transformer()->set_config_json(
      R"({"model_type":"gpt2","n_embd":96,"n_layer":1,"n_head":4,"vocab_size":64,
          "n_positions":64})");
  return spec;
}

v1::JobSpec Recommender(const std::function<void(v1::RecommenderSpec&)>& choose) {
  v1::JobSpec spec = OnData("likes", v1::Partition::KIND_USERS);
  spec.mutable_data()->mutable_interactions()->set_split(v1::Interactions::SPLIT_RATIO);
  v1::RecommenderSpec& model = *spec.mutable_model()->mutable_recommender();
  model.set_users(kUsers);
  model.set_items(kItems);
  choose(model);
  return spec;
}

using Change = std::function<void(v1::JobSpec&)>;

Change Method(const std::string& name) {
  return [name](v1::JobSpec& spec) {
    spec.mutable_method()->set_name(name);
    if (name == "rigl") {
      auto& parameters = *spec.mutable_method()->mutable_parameters();
      parameters["density"].set_double_value(0.3);
      parameters["update_every"].set_int_value(1);
    }
  };
}

struct Kind {
  std::string name;
  v1::JobSpec spec;
  std::string method;

  friend void PrintTo(const Kind& kind, std::ostream* out) { *out << kind.name; }
};

std::vector<Kind> Kinds() {
  std::vector<Kind> kinds;
  const auto lightgcn = Recommender([](v1::RecommenderSpec& model) {
    model.mutable_lightgcn()->set_dimensions(32);
    model.mutable_lightgcn()->set_layers(2);
  });
  const auto neumf = Recommender([](v1::RecommenderSpec& model) {
    model.mutable_neumf()->set_dimensions(64);
    model.mutable_neumf()->add_hidden(128);
  });
  const auto multvae = Recommender([](v1::RecommenderSpec& model) {
    model.mutable_multvae()->set_hidden(200);
    model.mutable_multvae()->set_latent(60);
  });
  const auto autoint = Recommender([](v1::RecommenderSpec& model) {
    model.mutable_autoint()->set_dimensions(32);
    model.mutable_autoint()->set_layers(2);
    model.mutable_autoint()->set_units(32);
  });
  for (const std::string method : {"dense", "rigl"}) {
    kinds.push_back({"Network" + method, Mlp(), method});
    kinds.push_back({"Convolutions" + method, Cnn(), method});
    kinds.push_back({"Transformer" + method, Transformer(), method});
    kinds.push_back({"Gpt2" + method, Gpt2(), method});
    kinds.push_back({"LightGcn" + method, lightgcn, method});
    kinds.push_back({"NeuMf" + method, neumf, method});
    kinds.push_back({"MultVae" + method, multvae, method});
    kinds.push_back({"AutoInt" + method, autoint, method});
  }
  v1::JobSpec language = OnText();
  language.mutable_model()->set_pretrained("small");
  kinds.push_back({"LanguageModelWanda", language, "wanda"});
  kinds.push_back({"LanguageModelSparseGpt", language, "sparsegpt"});
  return kinds;
}

void UseTraining(v1::JobSpec& spec) {
  spec.mutable_training()->set_batch_size(spec.data().has_text() ? 8 : 75);
  spec.mutable_training()->set_local_steps(2);
  spec.mutable_training()->mutable_optimizer()->set_kind(v1::Optimizer::KIND_SGD);
  spec.mutable_training()->mutable_optimizer()->set_learning_rate(0.05);
  spec.mutable_federation()->set_rounds(2);
  spec.mutable_evaluation()->set_central(true);
  spec.set_seed(3);
}

class ThreadCountTest : public testing::TestWithParam<Kind> {
 protected:
  // The model hash that the job ends with.
  static std::string HashWith(int threads) {
    Simulation sim;
    std::string config = support::SmallConfig("llama");
    for (const auto& [small, large] : std::map<std::string, std::string>{
             {"\"vocab_size\":17", "\"vocab_size\":256"},
             {"\"hidden_size\":16", "\"hidden_size\":96"},
             {"\"intermediate_size\":24", "\"intermediate_size\":240"},
             {"\"max_position_embeddings\":20", "\"max_position_embeddings\":64"}}) {
      config.replace(config.find(small), small.size(), large);
    }
    EXPECT_TRUE(support::SaveLanguageModel(support::RandomLanguageModel(config, 1),
                                           sim.models_folder() + "/small")
                    .ok());
    RealWorker worker("w0", Data().path(), sim.models_folder() + "-w0", sim.fleet, sim.jobs,
                      sim.blobs, threads);
    EXPECT_TRUE(worker.Connect().ok());
    v1::JobSpec spec = GetParam().spec;
    if (spec.model().pretrained().empty()) UseTraining(spec);
    Method(GetParam().method)(spec);
    const std::string name = sim.Start(spec);
    for (int idle = 0; sim.State(name) == v1::Job::STATE_RUNNING && idle < 3;) {
      idle = worker.busy() ? 0 : idle + 1;
      if (worker.busy()) worker.Work();
      worker.Heartbeat();
      sim.Settle();
      sim.Tick();
    }
    const v1::Job job = sim.Job(name);
    EXPECT_EQ(job.state(), v1::Job::STATE_SUCCEEDED)
        << job.failure_reason() << ": " << job.failure_message();
    return job.model_hash();
  }
};

TEST_P(ThreadCountTest, BitsDoNotDependOnThreads) {
  const std::string one = HashWith(1);
  EXPECT_FALSE(one.empty());
  for (const int threads : kThreads) EXPECT_EQ(HashWith(threads), one) << threads << " threads";
}

INSTANTIATE_TEST_SUITE_P(Kinds, ThreadCountTest, testing::ValuesIn(Kinds()),
                         [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace espalier::test
