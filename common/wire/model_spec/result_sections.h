// What the result of a task consists of, told by the task: a list of sections with a name, a type
// and a length each. The coordinator puts it into the task; worker and coordinator then read the
// same bytes, and nobody guesses from how many there are.
//
// Order:     sections of float32 come first, the model's values before all others.
// Threading: pure functions. Determinism: exact.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "common/tensor/model.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::wire {

using Sections = google::protobuf::RepeatedPtrField<v1::Section>;

// The sections that `task` asks for on a model of this structure; trained weights as `up` says
// (job.wire.up): F32, or differences of a compact type.
Sections SectionsOf(const v1::Task& task, const tensor::ModelTopology& topology,
                    v1::SectionType up = v1::SECTION_TYPE_F32);

// Most scores that `task` asks for, per tensor of the layout; empty when it asks for none at all.
std::vector<int64_t> AskedScores(const v1::Task& task, const tensor::ModelTopology& topology);

// Whether `found` are the sections that were `asked` for, in their order, none longer than it may
// be, and as long as a body of `body_bytes` in all.
// Errors: InvalidArgument (SHAPE_MISMATCH).
absl::Status CheckSections(const Sections& asked, const Sections& found, uint64_t body_bytes);

// The float32 of all sections that have such, one after the other. The values that a section
// DIFFERENCES stands for are among them, as kind VALUES.
struct ResultLayout {
  struct Range {
    int64_t begin = 0;
    int64_t end = 0;
    int64_t size() const { return end - begin; }
  };
  struct Part {
    v1::SectionKind kind = v1::SECTION_KIND_UNSPECIFIED;
    Range range = {};
  };
  int64_t values = 0;
  std::vector<Part> parts = {};
  // Ascending: of the model's values the weights, without running statistics.
  std::vector<Range> weights = {};
  // Ascending: variances, means of squares and importance, of which none can be below 0.
  std::vector<Range> not_negative = {};

  // Empty for a kind that is not there.
  Range Of(v1::SectionKind kind) const;
};

ResultLayout ResultLayoutOf(const v1::Task& task, const tensor::ModelTopology& topology);

}  // namespace espalier::wire
