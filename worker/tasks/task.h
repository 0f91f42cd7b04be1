// The result of a task, and what the task kinds share in making it.
//
// Threading:   pure functions of their arguments.
// Determinism: a partial is a function of the task and the data alone, on one type of processor, so
//              that a task can be given to another worker.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "common/sparsity/top_k.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::worker::tasks {

struct Partial {
  v1::PartialHeader header;  // examples, loss_sum, correct, sections, topology_hash
  std::string body;
};

// Appends a section to a result: the task's, in their order. `count` is the number of elements that
// `bytes` are, the other form's of float32.
void AddSection(v1::SectionKind kind, std::span<const float> values, Partial& partial);
void AddSection(v1::SectionKind kind, v1::SectionType type, uint64_t count, std::string_view bytes,
                Partial& partial);

// Appends the section DIFFERENCES that `task` asks for: `values`, of structure `topology`, less
// those of `start`, rounded by a key of the task's seed, round and participant, so that whoever
// does the task sends the same. A weight that `start` does not have began with 0.
// Errors: NON_FINITE for values that are not finite, which fewer bytes could not say.
absl::Status AddDifferences(const v1::Task& task, const v1::Section& section,
                            const tensor::ModelTopology& topology, std::span<const float> values,
                            const tensor::ModelState& start, Partial& partial);

// Appends the section of growth scores: lists, one for each tensor of the layout.
// Errors: NON_FINITE.
absl::Status AddScores(std::vector<sparsity::ScoredPositions> lists,
                       const tensor::ModelLayout& layout, Partial& partial);

// A result has finite numbers only, or none: the coordinator refuses others, and takes a worker that
// sends them for a broken or a hostile one. Looks at the sections of float32 and at what the header
// says. Errors: NON_FINITE.
absl::Status CheckFinite(const Partial& partial);

// The error of a task that asks for a section which this kind of task on this kind of model does
// not have.
absl::Status UnknownSection(const v1::Section& section);
// The error of a task that was cancelled.
absl::Status Cancelled();
// The error of a task that needs training examples on a shard that has none.
absl::Status NoTrainingExamples(const v1::Task& task);

}  // namespace espalier::worker::tasks
