// Upload: a finished result as it came, and what is read from the sections of its body.
//
// Everything here comes from workers and is believed only after it was checked.
// Threading: pure functions; the body of an upload may be read on any thread.
// Errors:    InvalidArgument: SHAPE_MISMATCH, SCORES_INVALID, INDEX_SET_INVALID, NON_FINITE,
//            READJUSTMENT_INVALID, TOPOLOGY_INVALID, TOPOLOGY_HASH_MISMATCH, VALUE_IMPOSSIBLE, and
//            those of reading the body.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>

#include "absl/status/status.h"
#include "common/tensor/model.h"
#include "common/wire/model_spec/result_sections.h"
#include "espalier/v1/worker.pb.h"
#include "server/reduce/reducer.h"

namespace espalier::server::round {

// The bytes of a body, which it keeps alive. Calls `sink` with consecutive pieces of the `size`
// bytes from `offset` on, and stops at its first error. May be called several times.
using Body = std::function<absl::Status(uint64_t offset, uint64_t size,
                                        const std::function<absl::Status(std::string_view)>& sink)>;

struct Upload {
  v1::PartialHeader header;
  Body body;
  std::string participant = {};  // whose it is, for those who do not know its task
};

// The error of an update of a task that nobody waits for any more.
absl::Status RoundClosed();

// How many float32 `sections` have or stand for in all, and the bytes that these take.
int64_t ValuesCount(const wire::Sections& sections);
int64_t ValuesBytes(const wire::Sections& sections);

// Reads the sections of `upload` into `partial`, values as a source that reads them when it is
// asked: the sections of an upload that wire::CheckSections() found right. Scores and a changed
// structure must be what `task` asked for on a model of structure `model`. `start`: the values that
// the task began with, to which differences are added; borrowed until the partial was merged.
absl::Status ReadSections(const v1::Task& task, const tensor::ModelTopology& model,
                          std::span<const float> start, const Upload& upload,
                          reduce::Partial& partial);

}  // namespace espalier::server::round
