#include "worker/tasks/task.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/base/version.h"
#include "common/wire/compact_values.h"
#include "common/wire/values_codec.h"

namespace espalier::worker::tasks {
namespace {

absl::Status NotFinite(const char* what) {
  return base::FailedPrecondition(
      "NON_FINITE", fmt::format("expected finite {}, found others: training diverges; lower "
                                "training.optimizer.learning_rate, or check the data",
                                what));
}

}  // namespace

void AddSection(v1::SectionKind kind, v1::SectionType type, uint64_t count, std::string_view bytes,
                Partial& partial) {
  v1::Section& section = *partial.header.add_sections();
  section.set_kind(kind);
  section.set_type(type);
  section.set_count(count);
  section.set_bytes(bytes.size());
  partial.body += bytes;
}

void AddSection(v1::SectionKind kind, std::span<const float> values, Partial& partial) {
  AddSection(kind, v1::SECTION_TYPE_F32, values.size(), wire::ValuesAsBytes(values), partial);
}

absl::Status AddDifferences(const v1::Task& task, const v1::Section& section,
                            const tensor::ModelTopology& topology, std::span<const float> values,
                            const tensor::ModelState& start, Partial& partial) {
  if (!wire::AllFinite(values)) return NotFinite("values after training");
  const bool same = topology.hash() == start.topology->hash();
  const std::vector<float> moved =
      same ? std::vector<float>() : tensor::RelayoutSet(*start.topology, start.values, topology);
  const uint64_t key = base::StreamKey(task.seed(), "wire/" + task.participant(),
                                       {static_cast<uint64_t>(task.round())});
  AddSection(section.kind(), section.type(), values.size(),
             wire::EncodeDifferences(topology, section.type(), values,
                                     same ? std::span<const float>(start.values) : moved, key),
             partial);
  return absl::OkStatus();
}

absl::Status UnknownSection(const v1::Section& section) {
  return base::MakeError(absl::StatusCode::kUnimplemented, "SECTION_UNKNOWN",
                         "expected sections of results that this worker (version " +
                             std::string(base::Version()) + ") can make, found number " +
                             std::to_string(static_cast<int>(section.kind())) +
                             "; upgrade the worker, or use another method");
}

absl::Status Cancelled() { return absl::CancelledError("the task was cancelled"); }

absl::Status NoTrainingExamples(const v1::Task& task) {
  return base::FailedPrecondition("SHARD_EMPTY", "expected training examples on shard " +
                                                     task.participant() +
                                                     ", found none; use fewer shards or another "
                                                     "partition");
}

absl::Status AddScores(std::vector<sparsity::ScoredPositions> lists,
                       const tensor::ModelLayout& layout, Partial& partial) {
  lists.resize(layout.size());
  std::vector<wire::TensorScores> scores;
  scores.reserve(lists.size());
  uint64_t count = 0;
  for (sparsity::ScoredPositions& list : lists) {
    if (!wire::AllFinite(list.values)) return NotFinite("scores of weights");
    count += list.positions.size();
    scores.push_back({std::move(list.positions), std::move(list.values)});
  }
  AddSection(v1::SECTION_KIND_GROWTH, v1::SECTION_TYPE_SCORES, count,
             wire::EncodeScores(scores, layout), partial);
  return absl::OkStatus();
}

absl::Status CheckFinite(const Partial& partial) {
  const v1::PartialHeader& header = partial.header;
  if (!std::isfinite(header.loss_sum())) return NotFinite("losses");
  for (const v1::Metric& metric : header.metric_sums()) {
    if (!std::isfinite(metric.value())) return NotFinite("metrics");
  }
  for (const v1::RecommendedItem& item : header.recommended()) {
    if (!std::isfinite(item.score())) return NotFinite("scores of items");
  }
  std::string_view rest = partial.body;
  std::array<float, 4096> block;
  for (const v1::Section& section : header.sections()) {
    std::string_view bytes = rest.substr(0, section.bytes());
    rest.remove_prefix(bytes.size());
    while (section.type() == v1::SECTION_TYPE_F32 && bytes.size() >= sizeof(float)) {
      // Sections begin where the one before ends, which need not be where a number may lie.
      const size_t count = std::min(block.size(), bytes.size() / sizeof(float));
      std::memcpy(block.data(), bytes.data(), count * sizeof(float));
      if (!wire::AllFinite(std::span(block).first(count))) return NotFinite("values");
      bytes.remove_prefix(count * sizeof(float));
    }
  }
  return absl::OkStatus();
}

}  // namespace espalier::worker::tasks
