#include "server/methods/program_state_codec.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "common/base/status.h"
#include "common/language/part_codec.h"
#include "server/methods/pruning/language_model.h"
#include "server/methods/pruning/language_program.h"
#include "tests/support/language_model.h"
#include "tests/unit/server/methods/test_jobs.h"

namespace espalier::server::methods {
namespace {

ProgramState StartState() {
  v1::JobSpec spec = SmallJob("set");
  SetDouble(spec, "density", 0.2);
  return MethodRegistry::Builtin().Make(spec).value()->Start().value().state;
}

TEST(ProgramStateCodecTest, EveryPrefixIsRefused) {
  const ProgramState state = StartState();
  const std::string bytes = EncodeProgramState(state);
  const auto layout = state.model.topology->shared_layout();
  ASSERT_TRUE(DecodeProgramState(bytes, layout).ok());
  for (size_t size = 0; size < bytes.size(); ++size) {
    EXPECT_FALSE(DecodeProgramState(std::string_view(bytes).substr(0, size), layout).ok()) << size;
  }
  EXPECT_EQ(base::ReasonOf(DecodeProgramState(bytes + "x", layout).status()), "STATE_CORRUPT");
}

TEST(ProgramStateCodecTest, AnyFlippedByteIsRefusedOrDecodesToAValidState) {
  const ProgramState state = StartState();
  const std::string bytes = EncodeProgramState(state);
  const auto layout = state.model.topology->shared_layout();
  for (size_t i = 0; i < bytes.size(); ++i) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0xff);
    const auto decoded = DecodeProgramState(damaged, layout);
    if (!decoded.ok()) continue;
    EXPECT_EQ(decoded->model.topology->hash(), state.model.topology->hash());
    EXPECT_EQ(decoded->model.values.size(), state.model.values.size());
  }
}

TEST(ProgramStateCodecTest, AnotherVersionIsNamed) {
  std::string bytes = EncodeProgramState(StartState());
  bytes[8] = 9;
  const auto decoded = DecodeProgramState(bytes, StartState().model.topology->shared_layout());
  EXPECT_EQ(base::ReasonOf(decoded.status()), "STATE_VERSION");
}

TEST(ProgramStateCodecTest, StateOfAnotherModelIsRefused) {
  v1::JobSpec other = SmallJob("set");
  other.mutable_model()->set_input_features(31);
  const ProgramState state = MethodRegistry::Builtin().Make(other).value()->Start().value().state;
  const auto decoded =
      DecodeProgramState(EncodeProgramState(StartState()), state.model.topology->shared_layout());
  EXPECT_EQ(base::ReasonOf(decoded.status()), "STATE_CORRUPT");
}

TEST(ProgramStateCodecTest, TheStepInWorkIsPartOfTheState) {
  const ProgramState state = StartState();
  ASSERT_TRUE(state.step.has_value());
  const auto decoded =
      DecodeProgramState(EncodeProgramState(state), state.model.topology->shared_layout());
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  ASSERT_TRUE(decoded->step.has_value());
  EXPECT_EQ(decoded->step->task.SerializeAsString(), state.step->task.SerializeAsString());
  EXPECT_TRUE(decoded->step->task.has_train());
  EXPECT_EQ(decoded->step->round, 1);
}

TEST(ProgramStateCodecTest, RunsAndTheModelThatIsKeptArePartOfTheState) {
  v1::JobSpec spec = SmallJob("imp");
  spec.mutable_federation()->set_rounds(1);
  const test::JobTrace trace = Trace(spec);
  const auto level = std::ranges::find_if(
      trace.transitions, [](const Transition& of) { return of.state.runs.size() == 3; });
  ASSERT_NE(level, trace.transitions.end());
  const ProgramState& state = level->state;
  const auto layout = state.runs[0].model.topology->shared_layout();
  const std::string bytes = EncodeProgramState(state);
  const auto decoded = DecodeProgramState(bytes, layout);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->runs[1].run, state.runs[1].run);
  EXPECT_EQ(decoded->runs[2].model.values, state.runs[2].model.values);
  EXPECT_EQ(decoded->kept->values, state.kept->values);
  EXPECT_EQ(EncodeProgramState(*decoded), bytes);
  for (size_t size = 0; size < bytes.size(); size += 7) {
    EXPECT_FALSE(DecodeProgramState(std::string_view(bytes).substr(0, size), layout).ok()) << size;
  }
  for (size_t i = 0; i < bytes.size(); i += 3) {
    std::string damaged = bytes;
    damaged[i] = static_cast<char>(damaged[i] ^ 0xff);
    const auto other = DecodeProgramState(damaged, layout);
    if (!other.ok()) continue;
    for (const ProgramState* run : StepsInWork(*other)) {
      EXPECT_EQ(run->model.values.size(), static_cast<size_t>(run->model.topology->total_stored()));
    }
  }
}

// After surgery the model is another one than the job's.
TEST(ProgramStateCodecTest, AModelOfItsOwnSpecNeedsNoOtherLayout) {
  ProgramState state = StartState();
  v1::JobSpec smaller = SmallJob("set");
  smaller.mutable_model()->mutable_layers(0)->mutable_linear()->set_units(7);
  const ProgramState own = Make(smaller)->Start().value().state;
  const auto of_the_job = state.model.topology->shared_layout();
  state.model = own.model;
  state.server = {};
  state.model_spec = std::make_shared<const v1::ModelSpec>(smaller.model());
  const auto decoded = DecodeProgramState(EncodeProgramState(state), of_the_job);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->model.topology->hash(), own.model.topology->hash());
  EXPECT_EQ(decoded->model_spec->layers(0).linear().units(), 7);
}

// A state of a job on a language model in parts, and the folder of the parts.
class LanguageStateTest : public testing::Test {
 protected:
  LanguageStateTest() : folder_(testing::TempDir() + "/language_state_test") {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~LanguageStateTest() override { std::filesystem::remove_all(folder_); }

  pretrained::PartStore NewStore() const {
    return pretrained::PartStore(io::PosixFileSystem(), folder_);
  }
  // What is left when the process that pruned the model is gone.
  std::string SavedState() const {
    pretrained::PartStore parts = NewStore();
    const support::LanguageModel random =
        support::RandomLanguageModel(support::SmallConfig("llama"), 3, 0.5);
    auto model = std::make_shared<LanguageModel>();
    model->config = random.config;
    model->outer = parts.Put(language::EncodeOuter(random.outer)).value();
    for (const language::BlockWeights& block : random.blocks) {
      model->blocks.push_back(parts.Put(language::EncodeBlock(block)).value());
      model->active.push_back(7);
    }
    model->companions.emplace_back("tokenizer.json", parts.Put("{}").value());
    model->block_weights = 14;
    model->outer_weights = 5;
    ProgramState state;
    state.model = EmptyModel().value();
    state.language = model;
    state.step.emplace().task.mutable_evaluate()->set_whole_test_split(true);
    state.companions = std::make_shared<const pretrained::Companions>(
        pretrained::Companions{{{"vocabulary.txt", parts.Put("a b").value()}}});
    parts.KeepFiles();
    return EncodeProgramState(state);
  }
  static std::shared_ptr<const tensor::ModelLayout> Layout() {
    return std::make_shared<const tensor::ModelLayout>();
  }

  const std::string folder_;
};

TEST_F(LanguageStateTest, ANewProcessFindsAllParts) {
  const std::string bytes = SavedState();
  const pretrained::PartStore parts = NewStore();
  const auto decoded = DecodeProgramState(bytes, Layout(), &parts);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(EncodeProgramState(*decoded), bytes);
  EXPECT_EQ(decoded->language->blocks.size(), 2u);
  EXPECT_TRUE(
      language::DecodeBlock(decoded->language->blocks[1].bytes(), decoded->language->config).ok());
  EXPECT_EQ(decoded->companions->files[0].second.bytes(), "a b");
}

TEST_F(LanguageStateTest, WithoutItsPartsAStateIsRefused) {
  const std::string bytes = SavedState();
  EXPECT_EQ(base::ReasonOf(DecodeProgramState(bytes, Layout()).status()), "STATE_CORRUPT");
  std::filesystem::remove_all(folder_);
  std::filesystem::create_directories(folder_);
  const pretrained::PartStore parts = NewStore();
  EXPECT_EQ(base::ReasonOf(DecodeProgramState(bytes, Layout(), &parts).status()), "PART_MISSING");
}

}  // namespace
}  // namespace espalier::server::methods
