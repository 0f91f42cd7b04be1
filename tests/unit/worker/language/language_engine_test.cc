#include "worker/language/language_engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "tests/support/language_model.h"
#include "worker/language/perplexity.h"

namespace espalier::worker::language {
namespace {

using support::LanguageModel;
using support::RandomLanguageModel;
using support::SmallConfig;

struct Loaded {
  std::unique_ptr<LanguageEngine> engine;
  std::vector<std::unique_ptr<LoadedBlock>> blocks;
};

Loaded Load(const LanguageModel& model, int64_t max_tokens, int threads = 1,
            engine::BackendKind backend = engine::BackendKind::kOneDnn) {
  Loaded loaded;
  loaded.engine = LanguageEngine::Create(model.config, max_tokens, threads, backend).value();
  for (const auto& block : model.blocks) {
    loaded.blocks.push_back(loaded.engine->Load(block).value());
  }
  return loaded;
}

HiddenState RunAll(Loaded& loaded, const LanguageModel& model,
                   const std::vector<std::vector<int32_t>>& sequences) {
  HiddenState hidden = loaded.engine->Embed(model.outer, sequences).value();
  for (auto& block : loaded.blocks) loaded.engine->Run(*block, hidden);
  return hidden;
}

const std::vector<std::vector<int32_t>> kSequences = {
    {1, 5, 16, 2, 2, 9, 11, 3, 0, 7, 7, 14, 8, 1, 2, 3, 4, 5, 6, 13}, {4}, {8, 3, 10, 12, 15}};

class FamilyTest : public testing::TestWithParam<std::tuple<std::string, double>> {};

TEST_P(FamilyTest, LogitsAreThoseOfTheNaiveForwardPass) {
  const auto [family, density] = GetParam();
  const LanguageModel model = RandomLanguageModel(SmallConfig(family), 3, density);
  Loaded loaded = Load(model, 30, 2);
  const HiddenState hidden = RunAll(loaded, model, kSequences);
  int64_t column = 0;
  for (const auto& sequence : kSequences) {
    for (const auto& expected : support::ReferenceLogits(model, sequence)) {
      const std::vector<float> logits = loaded.engine->Logits(model.outer, hidden, column++);
      for (size_t t = 0; t < expected.size(); ++t) EXPECT_NEAR(logits[t], expected[t], 1e-4);
    }
  }
}

TEST_P(FamilyTest, LossesAreThoseOfTheNaiveForwardPass) {
  const auto [family, density] = GetParam();
  const LanguageModel model = RandomLanguageModel(SmallConfig(family), 4, density);
  Loaded loaded = Load(model, 30);
  const HiddenState hidden = RunAll(loaded, model, kSequences);
  std::vector<int32_t> targets(static_cast<size_t>(hidden.size()));
  for (size_t c = 0; c < targets.size(); ++c) targets[c] = static_cast<int32_t>(c * 5 % 17);
  targets[2] = -1;
  const auto losses = loaded.engine->Losses(model.outer, hidden, targets).value();
  ASSERT_EQ(losses.size(), kSequences.size());
  size_t column = 0;
  for (size_t s = 0; s < kSequences.size(); ++s) {
    double sum = 0;
    int64_t correct = 0;
    for (const auto& logits : support::ReferenceLogits(model, kSequences[s])) {
      const int32_t target = targets[column++];
      if (target < 0) continue;
      sum += support::ReferenceLoss(logits, target);
      correct += std::max_element(logits.begin(), logits.end()) - logits.begin() == target ? 1 : 0;
    }
    EXPECT_NEAR(losses[s].nll_sum, sum, 1e-3);
    EXPECT_EQ(losses[s].correct, correct);
    EXPECT_EQ(losses[s].predicted, static_cast<int64_t>(kSequences[s].size()) - (s == 0 ? 1 : 0));
  }
}

TEST_P(FamilyTest, GenerationTakesTheArgMaxOfTheWholePrefix) {
  const auto [family, density] = GetParam();
  const LanguageModel model = RandomLanguageModel(SmallConfig(family), 5, density);
  Loaded loaded = Load(model, 20);
  std::vector<int32_t> tokens = {1, 5, 3};
  const auto generated = loaded.engine->Generate(model.outer, loaded.blocks, tokens, 10).value();
  ASSERT_EQ(generated.size(), 10u);
  for (const int32_t token : generated) {
    const auto logits = support::ReferenceLogits(model, tokens).back();
    EXPECT_EQ(token, std::max_element(logits.begin(), logits.end()) - logits.begin());
    tokens.push_back(token);
  }
}

INSTANTIATE_TEST_SUITE_P(Families, FamilyTest,
                         testing::Combine(testing::Values("llama", "qwen2", "gpt2", "opt"),
                                          testing::Values(1.0, 0.4)));

TEST(LanguageEngineTest, SparseLayersGiveTheSameBitsForAnyNumberOfThreads) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 6, 0.3);
  Loaded one = Load(model, 30, 1);
  Loaded three = Load(model, 30, 3);
  const HiddenState a = RunAll(one, model, kSequences);
  const HiddenState b = RunAll(three, model, kSequences);
  for (int64_t r = 0; r < model.config.hidden; ++r) {
    for (int64_t c = 0; c < a.size(); ++c) {
      ASSERT_EQ(a.values.data()[r * a.stride + c], b.values.data()[r * b.stride + c]);
    }
  }
}

TEST(LanguageEngineTest, ObserverSeesEveryLinearLayersInput) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 7);
  Loaded loaded = Load(model, 30);
  HiddenState hidden = loaded.engine->Embed(model.outer, kSequences).value();
  const std::vector<float> before(hidden.values.span().begin(), hidden.values.span().end());
  std::vector<std::string> names;
  std::vector<double> sums;
  const LinearObserver observer = [&](const LinearInput& input) {
    names.emplace_back(input.name);
    EXPECT_EQ(input.linear, names.size() - 1);
    EXPECT_EQ(input.tokens, 26);
    EXPECT_EQ(*input.bounds, (SequenceBounds{0, 20, 21, 26}));
    double sum = 0;
    for (int64_t r = 0; r < input.inputs; ++r) {
      for (int64_t c = 0; c < input.tokens; ++c) sum += std::abs(input.x[r * input.stride + c]);
    }
    if (input.same_as_previous) {
      EXPECT_EQ(sum, sums.back());
    }
    sums.push_back(sum);
  };
  loaded.engine->Observe(*loaded.blocks[0], hidden, observer);
  EXPECT_TRUE(std::ranges::equal(hidden.values.span(), before));
  const std::vector<double> observed = sums;
  names.clear();
  loaded.engine->Run(*loaded.blocks[0], hidden, observer);
  EXPECT_FALSE(std::ranges::equal(hidden.values.span(), before));
  sums.erase(sums.begin(), sums.begin() + 7);
  EXPECT_EQ(observed, sums);
  EXPECT_EQ(names, (std::vector<std::string>{"self_attn.q_proj", "self_attn.k_proj",
                                             "self_attn.v_proj", "self_attn.o_proj",
                                             "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"}));
}

TEST(LanguageEngineTest, RefusesTokensAndLengthsThatDoNotFit) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 8);
  Loaded loaded = Load(model, 30);
  const auto reason = [&](const std::vector<std::vector<int32_t>>& sequences) {
    return base::ReasonOf(loaded.engine->Embed(model.outer, sequences).status());
  };
  EXPECT_EQ(reason({{1, 17}}), "LANGUAGE_INPUT");
  EXPECT_EQ(reason({{-1}}), "LANGUAGE_INPUT");
  EXPECT_EQ(reason({{}}), "LANGUAGE_INPUT");
  EXPECT_EQ(reason({}), "LANGUAGE_INPUT");
  EXPECT_EQ(reason({std::vector<int32_t>(21, 1)}), "LANGUAGE_INPUT");
  EXPECT_EQ(reason({std::vector<int32_t>(20, 1), std::vector<int32_t>(11, 1)}), "LANGUAGE_INPUT");
  model::BlockWeights wrong = model.blocks[0];
  wrong.linears[2].values.pop_back();
  EXPECT_EQ(base::ReasonOf(loaded.engine->Load(wrong).status()), "SHAPE_MISMATCH");
}

// Σ of losses where each target is predicted from all tokens of its window before it.
double ReferencePerplexityLoss(const LanguageModel& model, const std::vector<int32_t>& tokens,
                               size_t context, size_t stride) {
  double sum = 0;
  size_t counted = 0;
  for (size_t begin = 0; counted < tokens.size() - 1; begin += stride) {
    const size_t size = std::min(context, tokens.size() - 1 - begin);
    const auto logits =
        support::ReferenceLogits(model, {tokens.begin() + static_cast<int64_t>(begin),
                                         tokens.begin() + static_cast<int64_t>(begin + size)});
    for (size_t i = counted - begin; i < size; ++i) {
      sum += support::ReferenceLoss(logits[i], tokens[begin + i + 1]);
    }
    counted = begin + size;
  }
  return sum;
}

TEST(PerplexityTest, EveryTokenButTheFirstIsPredictedOnce) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 9);
  std::vector<int32_t> tokens(47);
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * i % 17);
  const BlockSource blocks = [&](int64_t b) { return model.blocks[static_cast<size_t>(b)]; };
  for (const auto& [context, stride] : {std::pair{20, 20}, {20, 7}, {8, 8}, {8, 1}, {20, 3}}) {
    for (const int64_t group_bytes : {int64_t{1}, int64_t{1} << 30}) {
      const auto result =
          ComputePerplexity(model.config, model.outer, blocks, tokens, 2,
                            {.context = context, .stride = stride, .group_bytes = group_bytes});
      ASSERT_TRUE(result.ok());
      EXPECT_EQ(result->predicted, 46);
      EXPECT_NEAR(result->nll_sum,
                  ReferencePerplexityLoss(model, tokens, static_cast<size_t>(context),
                                          static_cast<size_t>(stride)),
                  2e-3)
          << context << " " << stride;
    }
  }
}

TEST(PerplexityTest, RefusesWhatCannotBeComputed) {
  const LanguageModel model = RandomLanguageModel(SmallConfig("llama"), 9);
  const BlockSource blocks = [&](int64_t b) { return model.blocks[static_cast<size_t>(b)]; };
  const auto reason = [&](std::vector<int32_t> tokens, int64_t context, int64_t stride) {
    return base::ReasonOf(ComputePerplexity(model.config, model.outer, blocks, tokens, 1,
                                            {.context = context, .stride = stride})
                              .status());
  };
  EXPECT_EQ(reason({1}, 0, 0), "TEXT_TOO_SHORT");
  EXPECT_EQ(reason({1, 2}, 21, 0), "PERPLEXITY_PARAMETER");
  EXPECT_EQ(reason({1, 2}, 8, 9), "PERPLEXITY_PARAMETER");
  EXPECT_EQ(reason({1, 17}, 0, 0), "LANGUAGE_INPUT");
}

}  // namespace
}  // namespace espalier::worker::language
