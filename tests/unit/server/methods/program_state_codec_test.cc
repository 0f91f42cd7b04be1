#include "server/methods/program_state_codec.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
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

}  // namespace
}  // namespace espalier::server::methods
