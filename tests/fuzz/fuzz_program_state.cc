// The saved state of a job's program, the parts of language models that it names, and the decision
// of a planner: whatever decodes can be encoded, and decodes to the same again.
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/language/part_codec.h"
#include "server/methods/planning/decision.h"
#include "server/methods/program_state_codec.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/small_model.h"
#include "tests/support/language_model.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::Require;
namespace language = espalier::language;
namespace methods = espalier::server::methods;

void ReadState(const std::string& bytes) {
  const auto layout = espalier::fuzz::SmallStructure()->shared_layout();
  const auto state = methods::DecodeProgramState(bytes, layout);
  if (!state.ok()) return;
  for (const methods::ProgramState* in_work : methods::StepsInWork(*state)) {
    Require(in_work->model.values.size() ==
                static_cast<size_t>(in_work->model.topology->total_stored()),
            "a model has a value for each stored weight");
  }
  const std::string encoded = methods::EncodeProgramState(*state);
  const auto again = methods::DecodeProgramState(encoded, layout);
  Require(again.ok(), "a state that was read can be written and read");
  // Maps in messages may be written in any order.
  Require(methods::EncodeProgramState(*again).size() == encoded.size(),
          "a state is as long as it was");
}

const language::TransformerConfig& Config() {
  static const language::TransformerConfig config =
      language::ParseTransformerConfig(espalier::support::SmallConfig("llama")).value();
  return config;
}

void ReadBlock(std::string_view bytes) {
  const auto block = language::DecodeBlock(bytes, Config());
  if (!block.ok()) return;
  const std::string encoded = language::EncodeBlock(*block);
  const auto again = language::DecodeBlock(encoded, Config());
  Require(again.ok() && language::EncodeBlock(*again) == encoded, "a block is what was written");
}

void ReadOuter(std::string_view bytes) {
  const auto outer = language::DecodeOuter(bytes, Config());
  if (!outer.ok()) return;
  const std::string encoded = language::EncodeOuter(*outer);
  const auto again = language::DecodeOuter(encoded, Config());
  Require(again.ok() && language::EncodeOuter(*again) == encoded, "the rest is what was written");
}

void ReadPlan(std::string_view bytes) {
  const std::vector<int64_t> most = {12, 4, 12, 3};
  const auto decision = methods::ReadDecision(*espalier::fuzz::SmallStructure(), most, bytes);
  if (!decision.ok()) return;
  const std::string encoded = methods::EncodeDecision(*decision);
  const auto again = methods::ReadDecision(*espalier::fuzz::SmallStructure(), most, encoded);
  Require(again.ok() && methods::EncodeDecision(*again) == encoded,
          "a decision is what was written");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  switch (input.Choice(4)) {
    case 0:
      ReadState(std::string(input.Rest()));
      break;
    case 1:
      ReadBlock(input.Rest());
      break;
    case 2:
      ReadOuter(input.Rest());
      break;
    default:
      ReadPlan(input.Rest());
  }
  return 0;
}
