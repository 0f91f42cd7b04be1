#include "server/reduce/ledger.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>

#include "common/base/status.h"
#include "common/wire/model_spec/evaluation_counts.h"
#include "server/reduce/fixed_point.h"
#include "server/reduce/saved.h"

namespace espalier::server::reduce {
namespace {

// Far more than one evaluation asks for.
constexpr size_t kMaxMetrics = 100;

}  // namespace

absl::Status Ledger::Check(const Partial& partial) const {
  if (finished_) {
    return base::FailedPrecondition("REDUCER_SPENT",
                                    "the step was reduced already; start a new one");
  }
  if (entries_.contains(partial.participant)) {
    return base::MakeError(
        absl::StatusCode::kAlreadyExists, "DUPLICATE_PARTICIPANT",
        fmt::format("participant \"{}\" was counted before; an update is counted "
                    "once",
                    partial.participant));
  }
  if (partial.examples < min_examples_) {
    return base::InvalidArgument(
        "NO_EXAMPLES",
        fmt::format("expected at least {} examples, found {}", min_examples_, partial.examples));
  }
  if (partial.examples > kMaxWeight) {
    return base::InvalidArgument("VALUE_IMPOSSIBLE",
                                 fmt::format("expected at most {} examples in one update, found {}",
                                             kMaxWeight, partial.examples));
  }
  if (!std::isfinite(partial.loss_sum)) {
    return base::InvalidArgument(
        "NON_FINITE", "the sum of losses is not a finite number; lower the learning rate");
  }
  for (const auto& [name, sum] : partial.metric_sums) {
    if (wire::IsUnboundedSum(name) && std::isfinite(sum)) continue;
    // Each metric of one example is in [0, 1]; sums of rounded terms may pass it by a little.
    if (sum >= 0 && sum <= static_cast<double>(partial.examples) * (1 + 1e-9)) continue;
    return base::InvalidArgument(
        "VALUE_IMPOSSIBLE",
        fmt::format("expected a sum of {} over {} examples from 0 to {}, found {}", name,
                    partial.examples, partial.examples, sum));
  }
  if (partial.metric_sums.size() > kMaxMetrics) {
    return base::InvalidArgument("VALUE_IMPOSSIBLE",
                                 fmt::format("expected at most {} metrics, found {}", kMaxMetrics,
                                             partial.metric_sums.size()));
  }
  if (partial.correct < 0 || partial.correct > partial.examples) {
    return base::InvalidArgument("VALUE_IMPOSSIBLE",
                                 fmt::format("expected 0 to {} correct examples, found {}",
                                             partial.examples, partial.correct));
  }
  return absl::OkStatus();
}

void Ledger::Add(const Partial& partial) {
  entries_.emplace(partial.participant,
                   Entry{partial.examples, partial.loss_sum, partial.correct,
                         partial.peak_memory_bytes, partial.compute_seconds, partial.metric_sums});
}

void Ledger::Save(io::ByteWriter& writer) const {
  writer.Put<uint64_t>(entries_.size());
  for (const auto& [participant, entry] : entries_) {
    writer.PutString(participant);
    writer.Put<int64_t>(entry.examples);
    writer.Put<double>(entry.loss_sum);
    writer.Put<int64_t>(entry.correct);
    writer.Put<int64_t>(entry.peak_memory_bytes);
    writer.Put<double>(entry.compute_seconds);
    writer.Put<uint64_t>(entry.metric_sums.size());
    for (const auto& [name, sum] : entry.metric_sums) {
      writer.PutString(name);
      writer.Put<double>(sum);
    }
  }
}

absl::StatusOr<Ledger> Ledger::Read(int64_t min_examples, io::ByteReader& reader) {
  Ledger ledger(min_examples);
  const auto count = reader.Get<uint64_t>();
  for (uint64_t i = 0; i < count && reader.ok(); ++i) {
    Partial partial;
    partial.participant = reader.GetString();
    partial.examples = reader.Get<int64_t>();
    partial.loss_sum = reader.Get<double>();
    partial.correct = reader.Get<int64_t>();
    partial.peak_memory_bytes = reader.Get<int64_t>();
    partial.compute_seconds = reader.Get<double>();
    const auto metrics = reader.Get<uint64_t>();
    for (uint64_t k = 0; k < metrics && reader.ok(); ++k) {
      const std::string name = reader.GetString();
      partial.metric_sums[name] = reader.Get<double>();
    }
    if (!reader.ok()) break;
    ESPALIER_RETURN_IF_ERROR(ledger.Check(partial));
    ledger.Add(partial);
  }
  if (!reader.ok()) return SavedError("scalars");
  return ledger;
}

absl::Status Ledger::CheckAbsorb(const Ledger& other) const {
  for (const auto& [participant, entry] : other.entries_) {
    Partial scalars;
    scalars.participant = participant;
    scalars.examples = entry.examples;
    ESPALIER_RETURN_IF_ERROR(Check(scalars));
  }
  return absl::OkStatus();
}

std::vector<Score> Ledger::Scores() const {
  std::vector<Score> scores;
  scores.reserve(entries_.size());
  for (const auto& [participant, entry] : entries_) {
    scores.push_back(
        {participant, entry.examples, entry.loss_sum, entry.correct, entry.metric_sums});
  }
  return scores;
}

absl::StatusOr<Reduced> Ledger::Finish() {
  if (finished_) {
    return base::FailedPrecondition("REDUCER_SPENT", "the step was reduced already");
  }
  finished_ = true;
  if (entries_.empty()) {
    return base::FailedPrecondition("NO_PARTIALS", "no participant's update was counted");
  }
  Reduced reduced;
  reduced.participants = static_cast<int64_t>(entries_.size());
  for (const auto& [participant, entry] : entries_) {
    reduced.examples += entry.examples;
    reduced.loss_sum += entry.loss_sum;
    reduced.correct += entry.correct;
    reduced.peak_memory_bytes = std::max(reduced.peak_memory_bytes, entry.peak_memory_bytes);
    reduced.compute_seconds += entry.compute_seconds;
    for (const auto& [name, sum] : entry.metric_sums) reduced.metric_sums[name] += sum;
  }
  entries_.clear();
  return reduced;
}

}  // namespace espalier::server::reduce
