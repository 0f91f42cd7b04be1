// Language models in Hugging Face's layout, trained further: dense, sparse by magnitude, and sparse
// with the zeros that pruning left. Every architecture, by the code that a worker process runs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "common/language/checkpoint_reader.h"
#include "tests/sim/real_tasks/real_fleet.h"
#include "tests/support/language_model.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::test {
namespace {

using ::testing::HasSubstr;

constexpr int kRounds = 6;
constexpr char kTokenizer[] = R"({"bos_token_id": 1})";

std::string ConfigOf(const std::string& family) {
  std::string config = support::SmallConfig(family);
  const std::string small = "\"vocab_size\":17";
  config.replace(config.find(small), small.size(), "\"vocab_size\":256");
  // As long as some programs make it.
  return config.insert(1, R"("task_specific_params":")" + std::string(3000, 'x') + R"(",)");
}

const worker::data::DataFolder& Text() {
  static const auto* folder = [] {
    auto* made = new worker::data::DataFolder();
    std::string text;
    for (int number = 1000; number < 1100; ++number) text += std::to_string(number) + "\n";
    made->Write("counting/train.txt", text);
    made->Write("counting/test.txt", text.substr(0, 200));
    return made;
  }();
  return *folder;
}

class FineTuneTest : public testing::TestWithParam<std::string> {
 protected:
  FineTuneTest() {
    const std::string folder = sim_.models_folder() + "/tiny";
    original_ = support::RandomLanguageModel(ConfigOf(GetParam()), 1);
    EXPECT_TRUE(support::SaveLanguageModel(original_, folder).ok());
    std::ofstream(folder + "/generation_config.json") << kTokenizer;
    for (const char* id : {"w0", "w1"}) {
      workers_.push_back(std::make_unique<RealWorker>(
          id, Text().path(), sim_.models_folder() + "-" + id, sim_.fleet, sim_.jobs, sim_.blobs));
      EXPECT_TRUE(workers_.back()->Connect().ok());
    }
  }

  static v1::JobSpec JobOf(const std::string& pretrained, const std::string& method) {
    v1::JobSpec spec;
    spec.mutable_model()->set_pretrained(pretrained);
    spec.mutable_data()->set_dataset("counting");
    spec.mutable_data()->mutable_text()->set_context(8);
    spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_IID);
    spec.mutable_data()->mutable_partition()->set_shards(2);
    spec.mutable_method()->set_name(method);
    spec.set_seed(3);
    return spec;
  }

  static v1::JobSpec Training(const std::string& pretrained, const std::string& method) {
    v1::JobSpec spec = JobOf(pretrained, method);
    spec.mutable_training()->set_batch_size(8);
    spec.mutable_training()->set_local_steps(4);
    v1::Optimizer& optimizer = *spec.mutable_training()->mutable_optimizer();
    optimizer.set_kind(v1::Optimizer::KIND_ADAM);
    optimizer.set_learning_rate(0.01);
    spec.mutable_federation()->set_rounds(kRounds);
    spec.mutable_evaluation()->set_central(true);
    return spec;
  }

  static v1::JobSpec Pruning(const std::string& pretrained, double sparsity) {
    v1::JobSpec spec = JobOf(pretrained, sparsity > 0 ? "wanda" : "magnitude");
    (*spec.mutable_method()->mutable_parameters())["sparsity"].set_double_value(sparsity);
    return spec;
  }

  v1::Job Run(const v1::JobSpec& spec) {
    std::vector<config::Violation> violations;
    const auto created = sim_.Create(spec, violations);
    std::string text;
    for (const auto& violation : violations) text += violation.field + violation.description;
    EXPECT_TRUE(created.ok()) << created.status() << text;
    if (!created.ok()) return {};
    sim_.Settle();
    RunToItsEnd(sim_, workers_, created->name());
    return sim_.Job(created->name());
  }

  v1::Job RunToSuccess(const v1::JobSpec& spec) {
    v1::Job job = Run(spec);
    EXPECT_EQ(job.state(), v1::Job::STATE_SUCCEEDED)
        << job.failure_reason() << ": " << job.failure_message();
    return job;
  }

  std::string Refusal(const v1::JobSpec& spec) {
    std::vector<config::Violation> violations;
    EXPECT_FALSE(sim_.Create(spec, violations).ok());
    std::string text;
    for (const auto& violation : violations) {
      text += violation.field + ": " + violation.description + "\n";
    }
    return text;
  }

  std::unique_ptr<language::CheckpointReader> Open(const std::string& job) {
    const auto kept = sim_.checkpoints().List(job.substr(sizeof("jobs/") - 1));
    const std::string path = sim_.checkpoints().FilePath(kept.front().name).value();
    auto reader = language::CheckpointReader::OpenFile(path);
    EXPECT_TRUE(reader.ok()) << reader.status();
    return *std::move(reader);
  }

  // The stored positions of every linear layer.
  std::vector<std::vector<int64_t>> Masks(const std::string& job) {
    std::vector<std::vector<int64_t>> masks;
    const auto reader = Open(job);
    for (int64_t b = 0; b < reader->config().blocks; ++b) {
      const auto block = reader->ReadBlock(b).value();
      for (const auto& linear : block.linears) {
        masks.push_back(linear.topology == nullptr ? std::vector<int64_t>{}
                                                   : linear.topology->Positions());
      }
    }
    return masks;
  }

  // What the language engine says of a job's checkpoint, by a pruning job that prunes nothing.
  double PerplexityByTheLanguageEngine(const std::string& job) {
    return RunToSuccess(Pruning(job, 0)).history().rbegin()->dense_perplexity();
  }

  Simulation sim_;
  std::vector<std::unique_ptr<RealWorker>> workers_;
  support::LanguageModel original_;
};

TEST_P(FineTuneTest, AllWeightsAreTrainedAndTheResultIsTheSameKindOfModel) {
  const double before = PerplexityByTheLanguageEngine("tiny");
  const v1::Job job = RunToSuccess(Training("tiny", "dense"));
  ASSERT_EQ(job.history_size(), kRounds);
  for (const v1::RoundSummary& round : job.history()) {
    EXPECT_NEAR(round.perplexity(), std::exp(round.test_loss()), 1e-9);
  }
  const double after = job.history(kRounds - 1).perplexity();
  EXPECT_LT(after, 0.5 * before);
  EXPECT_NEAR(PerplexityByTheLanguageEngine(job.name()), after, 1e-4 * after);
  const auto reader = Open(job.name());
  EXPECT_EQ(reader->config().json, original_.config.json);
  ASSERT_EQ(reader->companions().size(), 1U);
  EXPECT_EQ(reader->companions()[0].name, "generation_config.json");
  EXPECT_EQ(reader->companions()[0].bytes, kTokenizer);
  // Something in every block has moved, biases and positions too.
  const auto block = reader->ReadBlock(1).value();
  for (size_t i = 0; i < block.linears.size(); ++i) {
    EXPECT_NE(block.linears[i].values, original_.blocks[1].linears[i].values);
    if (!block.linears[i].bias.empty()) {
      EXPECT_NE(block.linears[i].bias, original_.blocks[1].linears[i].bias);
    }
  }
  EXPECT_EQ(reader->ReadOuter()->positions.size(), original_.outer.positions.size());
}

TEST_P(FineTuneTest, WithoutZerosAllWeightsAreTuned) {
  const v1::Job tuned = RunToSuccess(Training("tiny", "finetune"));
  EXPECT_EQ(tuned.model_hash(), RunToSuccess(Training("tiny", "dense")).model_hash());
  v1::JobSpec nothing = Training("", "finetune");
  EXPECT_THAT(Refusal(nothing), HasSubstr("is required: finetune begins with a trained model"));
}

TEST_P(FineTuneTest, TheZerosOfAPrunedModelStayThroughSeveralJobs) {
  const v1::Job pruned = RunToSuccess(Pruning("tiny", 0.5));
  const auto masks = Masks(pruned.name());
  const v1::Job tuned = RunToSuccess(Training(pruned.name(), "finetune"));
  EXPECT_EQ(tuned.model_hash(), RunToSuccess(Training(pruned.name(), "static")).model_hash());
  EXPECT_EQ(Masks(tuned.name()), masks);
  EXPECT_DOUBLE_EQ(tuned.history(0).density(), 0.5);
  const double after = tuned.history(kRounds - 1).perplexity();
  EXPECT_LT(after, 0.7 * pruned.history(pruned.history_size() - 1).perplexity());
  EXPECT_NEAR(PerplexityByTheLanguageEngine(tuned.name()), after, 1e-4 * after);
  // A checkpoint of training keeps them as well as one of pruning.
  const v1::Job again = RunToSuccess(Training(tuned.name(), "static"));
  EXPECT_EQ(Masks(again.name()), masks);
  EXPECT_LT(again.history(kRounds - 1).test_loss(), tuned.history(kRounds - 1).test_loss());
  EXPECT_EQ(Open(again.name())->config().json, original_.config.json);
  EXPECT_EQ(Open(again.name())->companions().size(), 1U);
}

TEST_P(FineTuneTest, MethodsThatChangeTheStructureBeginWithTheZerosOfAPrunedModel) {
  const v1::Job pruned = RunToSuccess(Pruning("tiny", 0.5));
  const auto masks = Masks(pruned.name());
  for (const char* method : {"set", "rigl"}) {
    const v1::Job tuned = RunToSuccess(Training(pruned.name(), method));
    EXPECT_DOUBLE_EQ(tuned.history(kRounds - 1).density(), 0.5) << method;
    EXPECT_GT(tuned.history(0).weights_changed(), 0) << method;
    EXPECT_NE(Masks(tuned.name()), masks) << method;
  }
}

// A folder has zeros among its weights: of a model that was exported, or pruned elsewhere.
TEST_P(FineTuneTest, TheZerosOfAFolderStay) {
  const v1::Job pruned = RunToSuccess(Pruning("tiny", 0.5));
  const auto reader = Open(pruned.name());
  support::LanguageModel model;
  model.config = reader->config();
  model.outer = reader->ReadOuter().value();
  for (int64_t b = 0; b < model.config.blocks; ++b) {
    model.blocks.push_back(reader->ReadBlock(b).value());
  }
  ASSERT_TRUE(support::SaveLanguageModel(model, sim_.models_folder() + "/halved").ok());
  const v1::Job tuned = RunToSuccess(Training("halved", "static"));
  EXPECT_EQ(Masks(tuned.name()), Masks(pruned.name()));
}

TEST_P(FineTuneTest, AFewZerosOfAFolderAreWeightsLikeOthers) {
  support::LanguageModel model = original_;
  model.blocks[0].linears[0].values[1] = 0;
  ASSERT_TRUE(support::SaveLanguageModel(model, sim_.models_folder() + "/rounded").ok());
  const v1::Job tuned = RunToSuccess(Training("rounded", "finetune"));
  EXPECT_EQ(tuned.model_hash(), RunToSuccess(Training("rounded", "dense")).model_hash());
}

TEST_P(FineTuneTest, ADensityKeepsTheLargestWeights) {
  v1::JobSpec spec = Training("tiny", "static");
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  parameters["density"].set_double_value(0.4);
  parameters["distribution"].set_string_value("uniform");
  const v1::Job job = RunToSuccess(spec);
  EXPECT_NEAR(job.history(0).density(), 0.4, 0.01);
  const auto masks = Masks(job.name());
  const auto& linears = original_.blocks[1].linears;
  for (size_t i = 0; i < linears.size(); ++i) {
    const auto& kept = masks[linears.size() + i];
    float smallest = std::numeric_limits<float>::infinity();
    std::vector<bool> is_kept(linears[i].values.size());
    for (const int64_t position : kept) {
      is_kept[position] = true;
      smallest = std::min(smallest, std::abs(linears[i].values[position]));
    }
    for (size_t p = 0; p < is_kept.size(); ++p) {
      if (is_kept[p]) continue;
      EXPECT_LE(std::abs(linears[i].values[p]), smallest);
    }
    EXPECT_LT(kept.size(), linears[i].values.size() / 2);
  }
}

TEST_P(FineTuneTest, GradualPruningBeginsWithAllWeights) {
  v1::JobSpec spec = Training("tiny", "gmp");
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  parameters["density"].set_double_value(0.5);
  parameters["end_round"].set_int_value(kRounds - 2);
  const v1::Job job = RunToSuccess(spec);
  EXPECT_DOUBLE_EQ(job.history(0).density(), 1);
  EXPECT_NEAR(job.history(kRounds - 1).density(), 0.5, 0.01);
  EXPECT_LT(job.history(0).perplexity(), PerplexityByTheLanguageEngine("tiny"));
}

// A folder has no state of an optimizer; the checkpoint of a job that began with it does.
TEST_P(FineTuneTest, TheOptimizerGoesOnFromTheCheckpointOfAJob) {
  const auto training = [](const std::string& pretrained, int rounds) {
    v1::JobSpec spec = Training(pretrained, "finetune");
    spec.mutable_training()->mutable_optimizer()->set_across_rounds(
        v1::Optimizer::ACROSS_ROUNDS_AVERAGE);
    spec.mutable_federation()->set_rounds(rounds);
    return spec;
  };
  for (const std::string& begin :
       {std::string("tiny"), RunToSuccess(Pruning("tiny", 0.5)).name()}) {
    const v1::Job first = RunToSuccess(training(begin, 2));
    EXPECT_EQ(first.optimizer_start().checkpoint(), "");
    EXPECT_THAT(first.optimizer_start().why_fresh(),
                HasSubstr(begin == "tiny" ? "a model under --models" : "was pruned"));
    const v1::Job second = RunToSuccess(training(first.name(), 2));
    EXPECT_EQ(second.optimizer_start().checkpoint(), first.latest_checkpoint());
    EXPECT_EQ(second.optimizer_start().steps(), 8);
    EXPECT_EQ(second.model_hash(), RunToSuccess(training(begin, 4)).model_hash());
  }
}

TEST_P(FineTuneTest, WhatIsNotPossibleIsRefusedWithWhatIs) {
  const std::string pruned = RunToSuccess(Pruning("tiny", 0.5)).name();
  EXPECT_THAT(Refusal(Training(pruned, "dense")), HasSubstr("finetune, static, set, rigl"));
  EXPECT_THAT(Refusal(Training("tiny", "snip")), HasSubstr("dense, dsnot"));
  EXPECT_THAT(Refusal(Training("nothing", "dense")), HasSubstr("tiny"));
  v1::JobSpec wide = Training("tiny", "dense");
  wide.mutable_model()->mutable_transformer()->set_hidden(64);
  EXPECT_THAT(Refusal(wide), HasSubstr("model.transformer: the trained model says what it is"));
  v1::JobSpec layers = Training("tiny", "dense");
  layers.mutable_model()->add_layers()->mutable_linear()->set_units(3);
  EXPECT_THAT(Refusal(layers), HasSubstr("model.pretrained"));
  v1::JobSpec far = Training("tiny", "dense");
  far.mutable_data()->mutable_text()->set_context(21);
  EXPECT_THAT(Refusal(far), HasSubstr("data.text.context: must be at most 20"));
  // That there is nothing to keep is known once the weights have been read.
  const v1::Job failed = Run(Training("tiny", "static"));
  EXPECT_EQ(failed.failure_reason(), "DENSE_MODEL");
  EXPECT_THAT(failed.failure_message(), HasSubstr("set method.parameters.density"));
  v1::JobSpec dense = Training(pruned, "static");
  (*dense.mutable_method()->mutable_parameters())["density"].set_double_value(0.8);
  EXPECT_EQ(Run(dense).failure_reason(), "DENSITY_ABOVE_MODEL");
}

TEST_P(FineTuneTest, AttentionMayStayDense) {
  v1::JobSpec spec = Training("tiny", "static");
  spec.mutable_model()->mutable_transformer()->set_dense_attention(true);
  (*spec.mutable_method()->mutable_parameters())["density"].set_double_value(0.5);
  const v1::Job job = RunToSuccess(spec);
  const auto reader = Open(job.name());
  const auto block = reader->ReadBlock(0).value();
  for (const auto& linear : block.linears) {
    EXPECT_EQ(linear.topology == nullptr, !language::IsFeedForward(linear.spec.role));
  }
}

INSTANTIATE_TEST_SUITE_P(Architectures, FineTuneTest,
                         testing::Values("llama", "qwen2", "gpt2", "opt"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace espalier::test
