// Jobs that begin with the optimizer state of another job's checkpoint, by the code that workers
// run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/language/checkpoint_reader.h"
#include "common/wire/values_codec.h"
#include "tests/sim/real_tasks/real_fleet.h"

namespace espalier::test {
namespace {

using server::checkpoint::CheckpointReader;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

v1::JobSpec Begin(const std::string& dataset, v1::Partition::Kind kind) {
  v1::JobSpec spec;
  spec.mutable_data()->set_dataset(dataset);
  spec.mutable_data()->mutable_partition()->set_kind(kind);
  spec.mutable_data()->mutable_partition()->set_shards(2);
  spec.mutable_training()->set_batch_size(16);
  spec.mutable_training()->set_local_steps(3);
  spec.mutable_federation()->set_rounds(2);
  spec.mutable_evaluation()->set_every_rounds(2);
  spec.set_seed(3);
  return spec;
}

// Two layers that may be sparse, and one that is dense.
v1::JobSpec Mlp() {
  v1::JobSpec spec = Begin("points", v1::Partition::KIND_IID);
  spec.mutable_model()->set_input_features(16);
  for (const int units : {12, 8, 3}) {
    v1::LinearLayer& layer = *spec.mutable_model()->add_layers()->mutable_linear();
    layer.set_units(units);
    layer.set_activation(units == 3 ? v1::ACTIVATION_LINEAR : v1::ACTIVATION_RELU);
    layer.set_dense(units == 3);
  }
  return spec;
}

v1::JobSpec Cnn() {
  v1::JobSpec spec = Begin("points", v1::Partition::KIND_IID);
  v1::ModelSpec& model = *spec.mutable_model();
  model.mutable_input_image()->set_channels(1);
  model.mutable_input_image()->set_height(4);
  model.mutable_input_image()->set_width(4);
  model.add_layers()->mutable_conv2d()->set_channels(4);
  model.add_layers()->mutable_batch_norm()->set_activation(v1::ACTIVATION_RELU);
  model.add_layers()->mutable_linear()->set_units(3);
  return spec;
}

v1::JobSpec Transformer() {
  v1::JobSpec spec = Begin("counting", v1::Partition::KIND_IID);
  spec.mutable_data()->mutable_text()->set_context(8);
  v1::TransformerSpec& model = *spec.mutable_model()->mutable_transformer();
  model.set_vocabulary(256);
  model.set_hidden(8);
  model.set_blocks(2);
  model.set_heads(2);
  return spec;
}

v1::JobSpec LightGcn() {
  v1::JobSpec spec = Begin("likes", v1::Partition::KIND_USERS);
  spec.mutable_data()->mutable_interactions()->set_split(v1::Interactions::SPLIT_RATIO);
  v1::RecommenderSpec& model = *spec.mutable_model()->mutable_recommender();
  model.set_users(kUsers);
  model.set_items(kItems);
  model.mutable_lightgcn()->set_dimensions(6);
  model.mutable_lightgcn()->set_layers(1);
  spec.mutable_evaluation()->add_top_k(5);
  return spec;
}

v1::JobSpec With(v1::JobSpec spec, v1::Optimizer::Kind kind) {
  v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
  optimizer.Clear();
  optimizer.set_kind(kind);
  optimizer.set_across_rounds(v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
  optimizer.set_learning_rate(kind == v1::Optimizer::KIND_ADAM ? 0.005 : 0.05);
  if (kind == v1::Optimizer::KIND_SGD) optimizer.set_momentum(0.9);
  return spec;
}

v1::JobSpec By(v1::JobSpec spec, const std::string& method, double density = 0) {
  spec.clear_method();
  spec.mutable_method()->set_name(method);
  if (density > 0) {
    (*spec.mutable_method()->mutable_parameters())["density"].set_double_value(density);
  }
  return spec;
}

v1::JobSpec From(v1::JobSpec spec, const std::string& trained) {
  spec.clear_model();
  spec.mutable_model()->set_pretrained(trained);
  return spec;
}

v1::JobSpec Rounds(v1::JobSpec spec, int rounds) {
  spec.mutable_federation()->set_rounds(rounds);
  return spec;
}

const std::vector<v1::Optimizer::Kind> kKinds = {v1::Optimizer::KIND_SGD, v1::Optimizer::KIND_ADAM};

class OptimizerStartSimTest : public testing::Test {
 protected:
  explicit OptimizerStartSimTest(Simulation::Memory memory = Simulation::Memory::kKept)
      : sim_(0, 1, memory) {
    for (const char* id : {"w0", "w1"}) {
      workers_.push_back(std::make_unique<RealWorker>(id, SmallData().path(),
                                                      sim_.models_folder() + "-" + id, sim_.fleet,
                                                      sim_.jobs, sim_.blobs));
      EXPECT_TRUE(workers_.back()->Connect().ok());
    }
  }

  v1::Job Run(const v1::JobSpec& spec) {
    const std::string name = sim_.Start(spec);
    RunToItsEnd(sim_, workers_, name);
    return sim_.Job(name);
  }
  v1::Job Train(const v1::JobSpec& spec) {
    v1::Job job = Run(spec);
    EXPECT_EQ(job.state(), v1::Job::STATE_SUCCEEDED) << job.failure_message();
    return job;
  }

  std::unique_ptr<CheckpointReader> Open(const v1::Job& job) {
    return sim_.checkpoints().OpenNetwork(job.latest_checkpoint()).value();
  }
  // The model of a job's newest checkpoint with its optimizer state; without one that is empty.
  tensor::ModelState Load(const v1::Job& job) {
    tensor::ModelState state = sim_.checkpoints().Load(job.latest_checkpoint()).value().state;
    const auto reader = Open(job);
    const auto& optimizer = reader->metadata().optimizer;
    const int slots = optimizer ? espalier::checkpoint::SlotsOf(optimizer->optimizer) : 0;
    for (int slot = 0; slot < slots; ++slot) {
      for (size_t i = 0; i < state.topology->num_tensors(); ++i) {
        std::vector<float> dense;
        EXPECT_TRUE(reader
                        ->ReadOptimizerState(slot, i,
                                             [&dense](std::span<const float> piece) {
                                               dense.insert(dense.end(), piece.begin(),
                                                            piece.end());
                                             })
                        .ok());
        const auto structure = state.topology->Structure(i).value();
        for (const int64_t position : structure->Positions()) {
          state.optimizer_state.push_back(dense[static_cast<size_t>(position)]);
        }
      }
    }
    return state;
  }
  // The same checkpoint, changed, as one of a job "changed".
  std::string Change(const v1::Job& job,
                     const std::function<void(tensor::ModelState&,
                                              server::checkpoint::CheckpointMetadata&)>& change) {
    tensor::ModelState state = Load(job);
    server::checkpoint::CheckpointMetadata metadata = Open(job)->metadata();
    metadata.job = "changed";
    metadata.round = ++changes_;
    change(state, metadata);
    return sim_.checkpoints().Write(state, metadata).value().name;
  }
  std::string WithoutState(const v1::Job& job) {
    return Change(job, [](auto&, auto& metadata) { metadata.optimizer.reset(); });
  }

  // Starts a job and returns the first task that it gives out, which stays where it is.
  v1::Task FirstTask(const v1::JobSpec& spec, std::string* job = nullptr) {
    const std::string name = sim_.Start(spec);
    sim_.Settle();
    if (job != nullptr) *job = name;
    const auto worker = std::ranges::find_if(workers_, [](const auto& one) { return one->busy(); });
    EXPECT_NE(worker, workers_.end());
    return worker == workers_.end() ? v1::Task() : (*worker)->task();
  }

  Simulation sim_;
  std::vector<std::unique_ptr<RealWorker>> workers_;
  int changes_ = 0;
};

class SavedOptimizerStartSimTest : public OptimizerStartSimTest {
 protected:
  SavedOptimizerStartSimTest() : OptimizerStartSimTest(Simulation::Memory::kSavedStates) {}
};

// With a constant learning rate and local steps nothing else of a job is left behind: two and two
// rounds are four.
TEST_F(OptimizerStartSimTest, TwoJobsInARowEndWithTheBitsOfOne) {
  for (const v1::JobSpec& family : {Mlp(), Cnn(), Transformer()}) {
    for (const auto kind : kKinds) {
      for (const bool sparse : {false, true}) {
        SCOPED_TRACE(family.model().ShortDebugString() + v1::Optimizer::Kind_Name(kind) +
                     (sparse ? ", sparse" : ", dense"));
        const v1::JobSpec spec = By(With(family, kind), sparse ? "static" : "dense", sparse * 0.5);
        const v1::Job whole = Train(Rounds(spec, 4));
        const v1::Job first = Train(spec);
        const v1::Job second = Train(From(By(spec, "finetune"), first.name()));
        EXPECT_EQ(second.model_hash(), whole.model_hash());
        EXPECT_EQ(second.optimizer_start().checkpoint(), first.latest_checkpoint());
        EXPECT_EQ(second.optimizer_start().steps(), 6);
        EXPECT_FALSE(whole.has_optimizer_start());
        const tensor::ModelState ended = Load(second);
        EXPECT_EQ(ended.optimizer_state, Load(whole).optimizer_state);
        EXPECT_EQ(ended.optimizer_state.size(),
                  ended.values.size() * (kind == v1::Optimizer::KIND_ADAM ? 2 : 1));
        EXPECT_EQ(Open(second)->metadata().optimizer->steps, 12);
        // Without the state, the same values go another way.
        const v1::Job fresh = Train(From(By(spec, "finetune"), WithoutState(first)));
        EXPECT_NE(fresh.model_hash(), whole.model_hash());
        EXPECT_EQ(fresh.optimizer_start().checkpoint(), "");
        EXPECT_THAT(fresh.optimizer_start().why_fresh(), HasSubstr("the checkpoint holds none"));
        EXPECT_EQ(fresh.stored_parameters(), whole.stored_parameters());
      }
    }
  }
}

TEST_F(SavedOptimizerStartSimTest, TheSameHoldsWhenTheCoordinatorIsKilledInEachStep) {
  for (const auto kind : kKinds) {
    const v1::JobSpec spec = By(With(Mlp(), kind), "static", 0.5);
    const v1::Job first = Train(spec);
    const v1::Job second = Train(From(By(spec, "static"), first.name()));
    EXPECT_EQ(second.model_hash(), Train(Rounds(spec, 4)).model_hash());
  }
}

// What a long job loses in its first steps with a fresh optimizer, one that goes on keeps.
TEST_F(OptimizerStartSimTest, TrainingGoesOnAtItsPace) {
  const v1::JobSpec spec = Rounds(By(With(Mlp(), v1::Optimizer::KIND_SGD), "dense"), 4);
  const v1::Job whole = Train(Rounds(spec, 5));
  const v1::Job first = Train(spec);
  const auto next_loss = [&](const std::string& trained) {
    return Train(Rounds(From(spec, trained), 1)).history(0).train_loss();
  };
  EXPECT_EQ(next_loss(first.name()), whole.history(4).train_loss());
  EXPECT_NE(next_loss(WithoutState(first)), whole.history(4).train_loss());
}

TEST_F(OptimizerStartSimTest, StructuresThatChangedTakeTheirStateAlong) {
  for (const v1::JobSpec& family : {Mlp(), Cnn(), Transformer()}) {
    for (const char* method : {"set", "rigl"}) {
      SCOPED_TRACE(family.model().ShortDebugString() + method);
      v1::JobSpec spec = Rounds(By(With(family, v1::Optimizer::KIND_ADAM), method, 0.5), 4);
      if (spec.method().name() == "rigl") {
        (*spec.mutable_method()->mutable_parameters())["update_every"].set_int_value(1);
      }
      const v1::Job changed = Train(spec);
      EXPECT_GT(changed.history(1).weights_changed(), 0);
      const tensor::ModelState kept = Load(changed);
      EXPECT_EQ(kept.optimizer_state.size(), 2 * kept.values.size());
      // With a rate of nearly nothing weights and structure stay, and the state that is sent is what
      // was written, to the last bit.
      v1::JobSpec still = From(By(spec, "static"), changed.name());
      std::string name;
      const v1::Task task = FirstTask(still, &name);
      EXPECT_EQ(task.train().first_step(), 12);
      const auto sent =
          wire::DecodeValues(task.model().optimizer_state().inline_(), kept.optimizer_state.size());
      ASSERT_TRUE(sent.ok()) << sent.status();
      EXPECT_EQ(*sent, kept.optimizer_state);
      RunToItsEnd(sim_, workers_, name);
      EXPECT_EQ(sim_.State(name), v1::Job::STATE_SUCCEEDED);
      EXPECT_EQ(Load(sim_.Job(name)).topology->hash(), kept.topology->hash());
    }
  }
}

TEST_F(OptimizerStartSimTest, AnotherOptimizerBeginsFresh) {
  const v1::JobSpec spec = By(With(Mlp(), v1::Optimizer::KIND_SGD), "dense");
  const v1::Job first = Train(spec);
  const v1::Job without = Train(From(spec, WithoutState(first)));
  EXPECT_NE(Train(From(spec, first.name())).model_hash(), without.model_hash());
  v1::JobSpec reset = From(spec, first.name());
  reset.mutable_training()->mutable_optimizer()->set_across_rounds(
      v1::Optimizer::ACROSS_ROUNDS_RESET);
  const v1::JobSpec adam = From(With(spec, v1::Optimizer::KIND_ADAM), first.name());
  for (const v1::JobSpec& other : {reset, adam}) {
    std::string name;
    const v1::Task task = FirstTask(other, &name);
    EXPECT_FALSE(task.model().has_optimizer_state());
    EXPECT_EQ(task.train().first_step(), 0);
    RunToItsEnd(sim_, workers_, name);
    EXPECT_EQ(sim_.State(name), v1::Job::STATE_SUCCEEDED);
  }
  EXPECT_THAT(Load(Train(reset)).optimizer_state, IsEmpty());
}

// Adam's moments count the steps behind them also where a round is a number of epochs.
TEST_F(OptimizerStartSimTest, StepsOfEpochsAreCounted) {
  for (const auto& [family, per_epoch] :
       {std::pair<v1::JobSpec, int64_t>{Mlp(), 6}, {Transformer(), 0}}) {
    v1::JobSpec spec = By(With(family, v1::Optimizer::KIND_ADAM), "dense");
    spec.mutable_data()->mutable_partition()->set_shards(1);
    spec.mutable_training()->clear_local_steps();
    spec.mutable_training()->set_local_epochs(2);
    const v1::Job first = Train(spec);
    const int64_t steps = Open(first)->metadata().optimizer->steps;
    EXPECT_EQ(steps % 4, 0);
    EXPECT_GT(steps, 0);
    EXPECT_TRUE(per_epoch == 0 || steps == 4 * per_epoch) << steps;
    const v1::Job second = Train(From(spec, first.name()));
    EXPECT_EQ(Open(second)->metadata().optimizer->steps, 2 * steps);
    // By the worker too: the same moments after fewer steps are taken for larger ones.
    const std::string young =
        Change(first, [](auto&, auto& metadata) { metadata.optimizer->steps = 1; });
    EXPECT_NE(Train(From(spec, young)).model_hash(), second.model_hash());
  }
}

TEST_F(OptimizerStartSimTest, StateThatNoOptimizerLeavesEndsTheJobWithAReason) {
  const v1::JobSpec spec = By(With(Mlp(), v1::Optimizer::KIND_ADAM), "static", 0.5);
  const v1::Job first = Train(spec);
  const std::string bad = Change(first, [](tensor::ModelState& state, auto&) {
    state.optimizer_state.back() = std::numeric_limits<float>::infinity();
  });
  const v1::Job failed = Run(From(By(spec, "static"), bad));
  EXPECT_EQ(failed.state(), v1::Job::STATE_FAILED);
  EXPECT_EQ(failed.failure_reason(), "OPTIMIZER_STATE_INVALID");
  EXPECT_THAT(failed.failure_message(), HasSubstr("second_moment of layers.2.bias"));
  // Its model can be used all the same.
  v1::JobSpec reset = From(By(spec, "static"), bad);
  reset.mutable_training()->mutable_optimizer()->set_across_rounds(
      v1::Optimizer::ACROSS_ROUNDS_RESET);
  Train(reset);
}

TEST_F(OptimizerStartSimTest, WhoWantsTheModelAloneGetsTheModelAlone) {
  const v1::Job network = Train(By(With(Mlp(), v1::Optimizer::KIND_ADAM), "dense"));
  const v1::Job language = Train(By(With(Transformer(), v1::Optimizer::KIND_ADAM), "static", 0.5));
  const std::string path = sim_.checkpoints().FilePath(language.latest_checkpoint()).value();
  const auto reader = language::CheckpointReader::OpenFile(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_THAT((*reader)->companions(), IsEmpty());
  EXPECT_TRUE((*reader)->ReadBlock(1).ok());
  for (const v1::Job& trained : {network, language}) {
    v1::JobSpec prune;
    prune.mutable_model()->set_pretrained(trained.name());
    *prune.mutable_data() = trained.spec().data();
    prune.mutable_method()->set_name("magnitude");
    (*prune.mutable_method()->mutable_parameters())["sparsity"].set_double_value(0.8);
    const v1::Job pruned = Train(prune);
    const auto metadata = sim_.checkpoints().ReadMetadata(pruned.latest_checkpoint()).value();
    EXPECT_FALSE(metadata.optimizer.has_value());
    const v1::JobSpec further = From(By(trained.spec(), "static"), pruned.name());
    EXPECT_FALSE(FirstTask(further).model().has_optimizer_state());
    for (const auto& worker : workers_) worker->Heartbeat();
  }
}

TEST_F(OptimizerStartSimTest, RecommendersWhichNoJobBeginsWithLeaveItOut) {
  const v1::Job job = Train(By(With(LightGcn(), v1::Optimizer::KIND_ADAM), "dense"));
  EXPECT_FALSE(Open(job)->metadata().optimizer.has_value());
}

}  // namespace
}  // namespace espalier::test
