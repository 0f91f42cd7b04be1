// Jobs that leave some tensors as they are (training.frozen), by the code that workers run.
#include "common/wire/model_spec/frozen.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/sim/real_tasks/real_fleet.h"

namespace espalier::test {
namespace {

v1::JobSpec Begin(const std::string& dataset, v1::Partition::Kind kind) {
  v1::JobSpec spec;
  spec.mutable_data()->set_dataset(dataset);
  spec.mutable_data()->mutable_partition()->set_kind(kind);
  spec.mutable_data()->mutable_partition()->set_shards(3);
  spec.mutable_method()->set_name("static");
  (*spec.mutable_method()->mutable_parameters())["density"].set_double_value(0.5);
  spec.mutable_training()->set_batch_size(16);
  spec.mutable_training()->set_local_steps(3);
  spec.mutable_training()->mutable_optimizer()->set_learning_rate(0.05);
  spec.mutable_federation()->set_rounds(3);
  spec.mutable_evaluation()->set_every_rounds(3);
  spec.set_seed(3);
  return spec;
}

v1::JobSpec Mlp() {
  v1::JobSpec spec = Begin("points", v1::Partition::KIND_IID);
  spec.mutable_model()->set_input_features(16);
  for (const int units : {12, 8, 3}) {
    v1::LinearLayer& layer = *spec.mutable_model()->add_layers()->mutable_linear();
    layer.set_units(units);
    layer.set_activation(units == 3 ? v1::ACTIVATION_LINEAR : v1::ACTIVATION_RELU);
  }
  spec.mutable_training()->add_frozen("layers.[01].*");
  return spec;
}

// A standardised convolution, whose weight has a learned scale, a batch norm and a linear layer.
v1::JobSpec Cnn() {
  v1::JobSpec spec = Begin("points", v1::Partition::KIND_IID);
  v1::ModelSpec& model = *spec.mutable_model();
  model.mutable_input_image()->set_channels(1);
  model.mutable_input_image()->set_height(4);
  model.mutable_input_image()->set_width(4);
  v1::Conv2dLayer& conv = *model.add_layers()->mutable_conv2d();
  conv.set_channels(4);
  conv.set_standardize(true);
  model.add_layers()->mutable_batch_norm()->set_activation(v1::ACTIVATION_RELU);
  model.add_layers()->mutable_linear()->set_units(3);
  spec.mutable_training()->add_frozen("layers.0.weight");
  spec.mutable_training()->add_frozen("layers.1.*");
  return spec;
}

v1::JobSpec Transformer() {
  v1::JobSpec spec = Begin("counting", v1::Partition::KIND_IID);
  spec.mutable_data()->mutable_text()->set_context(8);
  v1::TransformerSpec& model = *spec.mutable_model()->mutable_transformer();
  model.set_vocabulary(64);
  model.set_hidden(8);
  model.set_blocks(2);
  model.set_heads(2);
  spec.mutable_training()->add_frozen("model.layers.0.*");
  spec.mutable_training()->add_frozen("model.embed_tokens.weight");
  return spec;
}

v1::JobSpec Recommender(const std::string& frozen) {
  v1::JobSpec spec = Begin("likes", v1::Partition::KIND_USERS);
  spec.mutable_data()->mutable_interactions()->set_split(v1::Interactions::SPLIT_RATIO);
  v1::RecommenderSpec& model = *spec.mutable_model()->mutable_recommender();
  model.set_users(kUsers);
  model.set_items(kItems);
  spec.mutable_evaluation()->add_top_k(5);
  spec.mutable_training()->add_frozen(frozen);
  return spec;
}

v1::JobSpec LightGcn() {
  v1::JobSpec spec = Recommender("user*");
  spec.mutable_model()->mutable_recommender()->mutable_lightgcn()->set_dimensions(6);
  spec.mutable_model()->mutable_recommender()->mutable_lightgcn()->set_layers(1);
  spec.mutable_model()->mutable_recommender()->mutable_lightgcn()->set_initial_deviation(0.1);
  return spec;
}

v1::JobSpec MultVae() {
  v1::JobSpec spec = Recommender("encoder.*");
  spec.mutable_model()->mutable_recommender()->mutable_multvae()->set_hidden(10);
  spec.mutable_model()->mutable_recommender()->mutable_multvae()->set_latent(4);
  return spec;
}

struct Ended {
  v1::Job job;
  checkpoint::LoadedCheckpoint checkpoint;
};

class FrozenTest : public testing::Test {
 protected:
  FrozenTest() {
    for (const char* id : {"w0", "w1"}) {
      workers_.push_back(std::make_unique<RealWorker>(id, SmallData().path(),
                                                      sim_.models_folder() + "-" + id, sim_.fleet,
                                                      sim_.jobs, sim_.blobs));
      EXPECT_TRUE(workers_.back()->Connect().ok());
    }
  }

  Ended Train(const v1::JobSpec& spec) {
    const std::string name = sim_.Start(spec);
    RunToItsEnd(sim_, workers_, name);
    Ended ended{sim_.Job(name), {}};
    EXPECT_EQ(ended.job.state(), v1::Job::STATE_SUCCEEDED) << ended.job.failure_message();
    auto loaded = sim_.checkpoints().Load(ended.job.latest_checkpoint());
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    if (loaded.ok()) ended.checkpoint = *std::move(loaded);
    return ended;
  }

  std::vector<config::Violation> Violations(const v1::JobSpec& spec) {
    std::vector<config::Violation> violations;
    const auto job = sim_.Create(spec, violations);
    EXPECT_FALSE(job.ok());
    return violations;
  }

  Simulation sim_;
  std::vector<std::unique_ptr<RealWorker>> workers_;
};

// What a round and three rounds of the same job end with: what is frozen is the same, all other
// weights have moved on.
void ExpectOnlyTheOthersMove(const v1::JobSpec& spec, const tensor::ModelState& one,
                             const tensor::ModelState& three) {
  const tensor::ModelLayout& layout = three.topology->layout();
  const std::vector<bool> frozen = wire::FrozenTensors(spec.training(), layout);
  ASSERT_EQ(one.topology->hash(), three.topology->hash());
  EXPECT_TRUE(std::ranges::count(frozen, true) > 0);
  for (size_t i = 0; i < layout.size(); ++i) {
    EXPECT_EQ(std::ranges::equal(one.tensor(i), three.tensor(i)), frozen[i]) << layout[i].name;
  }
}

v1::JobSpec OneRound(v1::JobSpec spec) {
  spec.mutable_federation()->set_rounds(1);
  spec.mutable_evaluation()->set_every_rounds(1);
  return spec;
}

TEST_F(FrozenTest, FrozenTensorsStayInEveryFamilyAndWithEveryOptimizer) {
  for (const v1::JobSpec& family : {Mlp(), Cnn(), Transformer(), LightGcn(), MultVae()}) {
    for (const bool adam : {false, true}) {
      SCOPED_TRACE(family.model().ShortDebugString() + (adam ? ", adam" : ", sgd"));
      v1::JobSpec spec = family;
      v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
      optimizer.set_weight_decay(0.01);
      if (adam) {
        optimizer.set_kind(v1::Optimizer::KIND_ADAM);
        optimizer.set_learning_rate(0.005);
        optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
      } else {
        optimizer.set_momentum(0.9);
      }
      const Ended three = Train(spec);
      ExpectOnlyTheOthersMove(spec, Train(OneRound(spec)).checkpoint.state, three.checkpoint.state);
      v1::JobSpec thawed = spec;
      thawed.mutable_training()->clear_frozen();
      EXPECT_LT(three.job.history(0).bytes_received(),
                Train(thawed).job.history(0).bytes_received());
      EXPECT_LE(three.job.history(0).train_flops(), Train(thawed).job.history(0).train_flops());
    }
  }
}

TEST_F(FrozenTest, EmbeddingsThatAreNoOutputStayToo) {
  v1::JobSpec spec = Transformer();
  spec.mutable_model()->mutable_transformer()->set_untied(true);
  ExpectOnlyTheOthersMove(spec, Train(OneRound(spec)).checkpoint.state,
                          Train(spec).checkpoint.state);
}

TEST_F(FrozenTest, OfATrainedModelTheWeightsThatItHasStay) {
  v1::JobSpec first = Mlp();
  first.mutable_training()->clear_frozen();
  const Ended begin = Train(first);
  v1::JobSpec spec = Mlp();
  spec.clear_method();
  spec.mutable_method()->set_name("finetune");
  spec.mutable_model()->set_pretrained(begin.job.name());
  ExpectOnlyTheOthersMove(spec, begin.checkpoint.state, Train(spec).checkpoint.state);
}

TEST_F(FrozenTest, EveryRuleOfAggregationLeavesThemAlone) {
  using A = v1::Aggregation;
  for (const auto rule :
       {A::RULE_MEAN, A::RULE_MEDIAN, A::RULE_TRIMMED_MEAN, A::RULE_KRUM, A::RULE_MULTI_KRUM}) {
    for (const bool clips : {false, true}) {
      SCOPED_TRACE(A::Rule_Name(rule) + (clips ? ", clipped" : ""));
      v1::JobSpec spec = Cnn();
      spec.mutable_aggregation()->set_rule(rule);
      spec.mutable_aggregation()->set_server_optimizer(A::SERVER_OPTIMIZER_ADAM);
      if (clips) spec.mutable_aggregation()->set_clip_norm(0.01);
      if (!clips && rule == A::RULE_MEAN) spec.mutable_aggregation()->set_pooled_variance(true);
      ExpectOnlyTheOthersMove(spec, Train(OneRound(spec)).checkpoint.state,
                              Train(spec).checkpoint.state);
    }
  }
}

TEST_F(FrozenTest, WeightsOfATrainedModelAreNotRemovedBeforeTheyAreFrozen) {
  v1::JobSpec first = Mlp();
  first.mutable_training()->clear_frozen();
  v1::JobSpec spec = Mlp();
  spec.mutable_model()->set_pretrained(Train(first).job.name());
  const auto violations = Violations(spec);
  ASSERT_EQ(violations.size(), 1U);
  EXPECT_EQ(violations[0].field, "training.frozen");
  EXPECT_THAT(violations[0].description, testing::HasSubstr("leave out density"));
}

TEST_F(FrozenTest, WhatCannotBeFrozenIsRefusedWithAReason) {
  struct Case {
    const char* name;
    std::function<void(v1::JobSpec&)> change;
    const char* field;
    const char* said;
  };
  const std::vector<Case> cases = {
      {"a method that moves weights",
       [](v1::JobSpec& spec) { spec.mutable_method()->set_name("set"); }, "training.frozen",
       "use dense, finetune, static"},
      {"a name that no tensor has",
       [](v1::JobSpec& spec) { spec.mutable_training()->add_frozen("layer.0.*"); },
       "training.frozen[1]", "names are layers.0.weight"},
      {"everything", [](v1::JobSpec& spec) { spec.mutable_training()->add_frozen("*"); },
       "training.frozen", "leave something to be trained"},
      {"an empty pattern", [](v1::JobSpec& spec) { spec.mutable_training()->add_frozen(""); },
       "training.frozen", "1 to 200 bytes, found pattern 2 with 0"},
      {"control variates",
       [](v1::JobSpec& spec) { spec.mutable_training()->set_control_variates(true); },
       "training.frozen", "control_variates"},
      {"fewer bytes", [](v1::JobSpec& spec) { spec.mutable_wire()->set_up(v1::Wire::VALUES_INT8); },
       "training.frozen", "f32"},
  };
  for (const Case& one : cases) {
    SCOPED_TRACE(one.name);
    v1::JobSpec spec = Mlp();
    one.change(spec);
    const auto violations = Violations(spec);
    ASSERT_EQ(violations.size(), 1U);
    EXPECT_EQ(violations[0].field, one.field);
    EXPECT_THAT(violations[0].description, testing::HasSubstr(one.said));
  }
}

}  // namespace
}  // namespace espalier::test
