// Results of tasks: a header and the body's sections, as the coordinator reads them from a worker
// and adds them up. What was taken can be saved and absorbed with the same result.
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/wire/compact_values.h"
#include "common/wire/model_spec/result_sections.h"
#include "server/reduce/reducer.h"
#include "server/round/claims.h"
#include "server/round/upload.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/messages.h"
#include "tests/fuzz/result_tasks.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::Require;
namespace v1 = espalier::v1;
namespace reduce = espalier::server::reduce;
namespace round = espalier::server::round;
namespace wire = espalier::wire;

// The body in pieces of this many bytes.
espalier::server::round::Body BodyOf(std::string bytes, size_t piece) {
  return [bytes = std::move(bytes), piece](uint64_t offset, uint64_t size,
                                           const auto& sink) -> absl::Status {
    Require(offset <= bytes.size() && size <= bytes.size() - offset,
            "nothing beyond the body is read");
    const std::string_view wanted = std::string_view(bytes).substr(offset, size);
    for (size_t i = 0; i < wanted.size(); i += piece) {
      if (const absl::Status status = sink(wanted.substr(i, piece)); !status.ok()) return status;
    }
    return absl::OkStatus();
  };
}

reduce::Partial PartialOf(const v1::PartialHeader& header) {
  reduce::Partial partial;
  partial.participant = "participant";
  partial.examples = header.examples();
  partial.loss_sum = header.loss_sum();
  partial.correct = header.correct();
  partial.steps = header.steps();
  partial.peak_memory_bytes = header.peak_memory_bytes();
  for (const v1::Metric& metric : header.metric_sums()) {
    partial.metric_sums[metric.name()] = metric.value();
  }
  return partial;
}

void CheckSaved(const espalier::fuzz::ResultTask& task, const reduce::Reducer& reducer) {
  const auto saved = reducer.Save();
  Require(saved.ok(), "what was merged can be saved");
  const auto other = espalier::fuzz::ReducerOf(task);
  Require(other->Absorb(*saved).ok(), "what was saved can be absorbed");
  const auto again = other->Save();
  Require(again.ok() && *again == *saved, "what was absorbed is what was saved");
  (void)other->Finish();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const auto& tasks = espalier::fuzz::ResultTasks();
  const auto& task = tasks[static_cast<size_t>(input.Choice(static_cast<int>(tasks.size())))];
  // Sizes and claims are those that are asked for where this is 1, so that more inputs get to the
  // body.
  const bool honest = input.Choice(2) == 1;
  const size_t piece = 1 + static_cast<size_t>(input.Choice(64));
  round::Upload upload;
  if (!espalier::fuzz::Parse(input.Part(), upload.header)) return 0;
  std::string body(input.Rest());
  if (honest) {
    upload.header.clear_sections();
    uint64_t bytes = 0;
    for (v1::Section section : task.sections) {
      if (section.type() == v1::SECTION_TYPE_SCORES ||
          section.type() == v1::SECTION_TYPE_TOPOLOGY_UPDATE) {
        section.set_bytes(std::min<uint64_t>(section.bytes(),
                                             body.size() - std::min<size_t>(bytes, body.size())));
      }
      bytes += section.bytes();
      *upload.header.add_sections() = section;
    }
    body.resize(bytes);
    upload.header.set_update_id("id");
  }
  upload.header.set_body_bytes(body.size());
  if (!round::CheckClaims(upload.header, task.task, 1000).ok()) return 0;
  if (!wire::CheckSections(task.sections, upload.header.sections(), body.size()).ok()) return 0;
  upload.body = BodyOf(std::move(body), piece);
  reduce::Partial partial = PartialOf(upload.header);
  const auto& start = espalier::fuzz::StartValues();
  const auto& structure = *espalier::fuzz::SmallStructure();
  if (!round::ReadSections(task.task, structure, start, upload, partial).ok()) return 0;
  const auto reducer = espalier::fuzz::ReducerOf(task);
  if (!reducer->Merge(partial).ok()) return 0;
  Require(!reducer->Merge(partial).ok(), "a participant counts once");
  CheckSaved(task, *reducer);
  (void)reducer->Finish();
  return 0;
}
