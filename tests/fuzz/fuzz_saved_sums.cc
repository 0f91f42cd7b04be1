// The saved sums of reducers. Their checksum is made here, so that the fuzzer reaches what is
// behind it; whatever is absorbed can be saved and absorbed again, and gives a result or an error.
#include <cstdint>
#include <string>

#include "server/reduce/saved.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/result_tasks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using espalier::fuzz::Require;
  namespace reduce = espalier::server::reduce;
  espalier::fuzz::Input input(data, size);
  const auto& tasks = espalier::fuzz::ResultTasks();
  const auto& task = tasks[static_cast<size_t>(input.Choice(static_cast<int>(tasks.size())))];
  const int kind = input.Choice(static_cast<int>(reduce::SavedKind::kKept) + 2);
  // The last choice: as it is, with the frame.
  const std::string saved =
      kind > static_cast<int>(reduce::SavedKind::kKept)
          ? std::string(input.Rest())
          : reduce::SealSaved(static_cast<reduce::SavedKind>(kind), input.Rest());
  const auto reducer = espalier::fuzz::ReducerOf(task);
  if (!reducer->Absorb(saved).ok()) return 0;
  const auto again = reducer->Save();
  Require(again.ok(), "what was absorbed can be saved");
  const auto other = espalier::fuzz::ReducerOf(task);
  Require(other->Absorb(*again).ok(), "what was saved can be absorbed");
  const auto once_more = other->Save();
  Require(once_more.ok() && *once_more == *again, "what was absorbed is what was saved");
  // Another participant's of the same numbers: either is an error and changes nothing, or counts.
  (void)other->Absorb(saved);
  const bool has_result = reducer->Finish().ok();
  Require(has_result == other->Finish().ok(), "equal sums have a result alike");
  return 0;
}
