// espalier-check-language: the engine against the published logits, continuation and loss of a
// trained model that the repository does not hold. ESPALIER_DATA names a folder with
// models/stories260K and text/tinystories; without it the check fails.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "common/io/file_system.h"
#include "common/language/checkpoint_reader.h"
#include "common/language/tokenizer.h"
#include "worker/language/language_engine.h"
#include "worker/language/perplexity.h"

namespace espalier::worker::language {
namespace {

class ReferenceCheck : public testing::Test {
 protected:
  void SetUp() override {
    const char* data = std::getenv("ESPALIER_DATA");
    ASSERT_NE(data, nullptr) << "set ESPALIER_DATA";
    root_ = data;
    reader_ = model::CheckpointReader::Open(root_ + "/models/stories260K").value();
    tokenizer_ = model::LoadTokenizer(root_ + "/models/stories260K").value();
    outer_ = reader_->ReadOuter().value();
    reference_ = nlohmann::json::parse(Text("/models/stories260K/reference.json"));
  }

  std::string Text(const std::string& path) const {
    return io::ReadFile(io::PosixFileSystem(), root_ + path, 1 << 24).value();
  }

  // BOS and the tokens of `text`.
  std::vector<int32_t> Tokens(const std::string& text) const {
    std::vector<int32_t> tokens = tokenizer_->Encode(text);
    tokens.insert(tokens.begin(), tokenizer_->bos());
    return tokens;
  }

  std::string root_;
  std::unique_ptr<model::CheckpointReader> reader_;
  std::unique_ptr<model::Tokenizer> tokenizer_;
  model::OuterWeights outer_;
  nlohmann::json reference_;
};

TEST_F(ReferenceCheck, LogitsAndContinuationAreThoseOfTheReference) {
  const std::vector<int32_t> prompt = Tokens(reference_["prompt"]);
  EXPECT_EQ(prompt, reference_["prompt_ids"].get<std::vector<int32_t>>());
  const auto engine = LanguageEngine::Create(reader_->config(), 128, 2).value();
  std::vector<std::unique_ptr<LoadedBlock>> blocks;
  for (int64_t b = 0; b < reader_->config().blocks; ++b) {
    blocks.push_back(engine->Load(reader_->ReadBlock(b).value()).value());
  }
  HiddenState hidden = engine->Embed(outer_, std::span(&prompt, 1)).value();
  for (auto& block : blocks) engine->Run(*block, hidden);
  const std::vector<float> logits = engine->Logits(outer_, hidden, hidden.size() - 1);
  const auto expected = reference_["logits_after_prompt_first8"].get<std::vector<double>>();
  for (size_t t = 0; t < expected.size(); ++t) EXPECT_NEAR(logits[t], expected[t], 1e-4);
  EXPECT_NEAR(*std::ranges::max_element(logits),
              reference_["logits_after_prompt_max"].get<double>(), 1e-4);
  const auto generated = engine->Generate(outer_, blocks, prompt, 64).value();
  EXPECT_EQ(generated, reference_["greedy_64_ids"].get<std::vector<int32_t>>());
  const std::string text =
      tokenizer_->Decode(std::span(prompt)) + tokenizer_->Decode(generated, true);
  EXPECT_TRUE(text.starts_with("Once upon a time, there was a little girl named Lily.")) << text;
}

TEST_F(ReferenceCheck, LossOnTinyStoriesIsThatOfTheReference) {
  const auto& reference = reference_["nll_tinystories_first_20000_chars"];
  // Characters, not bytes.
  const std::string all = Text("/text/tinystories/tinystories_sample.txt");
  size_t end = 0;
  for (int characters = 0; end < all.size(); ++end) {
    const bool begins = (static_cast<unsigned char>(all[end]) & 0xc0) != 0x80;
    if (begins && ++characters > 20000) break;
  }
  const std::vector<int32_t> tokens = Tokens(all.substr(0, end));
  ASSERT_EQ(tokens.size(), reference["tokens"].get<size_t>());
  EXPECT_EQ(tokenizer_->Decode(tokens), all.substr(0, end));
  const BlockSource blocks = [&](int64_t b) { return reader_->ReadBlock(b); };
  const auto result = ComputePerplexity(reader_->config(), outer_, blocks, tokens, 2).value();
  EXPECT_EQ(result.predicted, reference["predicted"].get<int64_t>());
  EXPECT_NEAR(result.mean_nll(), reference["mean_nll"].get<double>(), 1e-4);
}

}  // namespace
}  // namespace espalier::worker::language
