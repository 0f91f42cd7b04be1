#include "server/methods/aggregation/server_state.h"

#include <span>
#include <utility>

namespace espalier::server::methods {
namespace {

void PutSet(const NumberSet& set, StateWriter& writer) {
  writer.PutLong(set == nullptr ? std::span<const float>() : std::span<const float>(*set));
}

bool GetSet(StateReader& reader, size_t stored, NumberSet& set) {
  std::vector<float> numbers = reader.GetLong<float>();
  if (!reader.ok() || (!numbers.empty() && numbers.size() != stored)) return false;
  if (!numbers.empty()) set = std::make_shared<const std::vector<float>>(std::move(numbers));
  return true;
}

}  // namespace

void PutServerState(const ServerState& state, StateWriter& writer) {
  PutSet(state.momentum, writer);
  PutSet(state.second_moment, writer);
  PutSet(state.control, writer);
  PutSet(state.unsent, writer);
  writer.Put<uint64_t>(state.controls.size());
  for (const auto& [participant, control] : state.controls) {
    writer.PutString(participant);
    PutSet(control, writer);
  }
}

std::unique_ptr<ServerState> GetServerState(StateReader& reader, size_t stored) {
  auto state = std::make_unique<ServerState>();
  if (!GetSet(reader, stored, state->momentum) || !GetSet(reader, stored, state->second_moment) ||
      !GetSet(reader, stored, state->control) || !GetSet(reader, stored, state->unsent)) {
    return nullptr;
  }
  const auto count = reader.Get<uint64_t>();
  for (uint64_t i = 0; i < count && reader.ok(); ++i) {
    const std::string participant = reader.GetString();
    if (!GetSet(reader, stored, state->controls[participant])) return nullptr;
  }
  return reader.ok() ? std::move(state) : nullptr;
}

}  // namespace espalier::server::methods
