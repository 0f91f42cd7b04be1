#include "server/reduce/statistics_reducer.h"

#include <fmt/core.h>

#include <algorithm>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/io/byte_codec.h"
#include "server/reduce/saved.h"

namespace espalier::server::reduce {

using sparsity::ActivationStatistics;

uint64_t StatisticsBytes(const std::vector<StatisticsInput>& inputs) {
  uint64_t bytes = 0;
  for (const StatisticsInput& input : inputs) {
    bytes += ActivationStatistics::EncodedBytes(input.columns, input.gram);
  }
  return bytes;
}

namespace {

absl::Status LengthError(uint64_t expected, uint64_t found) {
  return base::InvalidArgument("SHAPE_MISMATCH",
                               fmt::format("expected {} bytes of statistics, found {}{}", expected,
                                           found > expected ? "at least " : "", found));
}

}  // namespace

StatisticsReducer::StatisticsReducer(std::vector<StatisticsInput> inputs)
    : inputs_(std::move(inputs)) {
  for (const StatisticsInput& input : inputs_) sums_.emplace_back(input.columns, input.gram);
}

absl::StatusOr<StatisticsReducer::Sums> StatisticsReducer::Read(const Partial& partial) const {
  std::string bytes;
  const uint64_t expected = StatisticsBytes(inputs_);
  bytes.reserve(expected);
  ESPALIER_RETURN_IF_ERROR(partial.statistics([&](std::string_view piece) {
    // One byte too many is enough to refuse it.
    bytes.append(piece.substr(0, expected + 1 - bytes.size()));
    return absl::OkStatus();
  }));
  if (bytes.size() != expected) return LengthError(expected, bytes.size());
  return Decode(bytes);
}

absl::StatusOr<StatisticsReducer::Sums> StatisticsReducer::Decode(std::string_view bytes) const {
  Sums statistics;
  std::string_view rest = bytes;
  for (const StatisticsInput& input : inputs_) {
    const uint64_t size = ActivationStatistics::EncodedBytes(input.columns, input.gram);
    ESPALIER_ASSIGN_OR_RETURN(
        ActivationStatistics one,
        ActivationStatistics::Decode(rest.substr(0, size), input.columns, input.gram));
    rest.remove_prefix(std::min<uint64_t>(size, rest.size()));
    statistics.push_back(std::move(one));
  }
  return statistics;
}

absl::Status StatisticsReducer::Merge(const Partial& partial) {
  ESPALIER_RETURN_IF_ERROR(ledger_.Check(partial));
  if (!partial.statistics) return LengthError(StatisticsBytes(inputs_), 0);
  if (partial.values_count != 0 || !partial.scores.empty()) {
    return base::InvalidArgument("SHAPE_MISMATCH",
                                 "expected statistics and nothing else, found values or scores");
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<ActivationStatistics> statistics, Read(partial));
  for (const ActivationStatistics& one : statistics) {
    if (one.sequences() == partial.examples) continue;
    return base::InvalidArgument("STATISTICS_INVALID",
                                 fmt::format("expected statistics of {} examples, found {}",
                                             partial.examples, one.sequences()));
  }
  ESPALIER_ASSIGN_OR_RETURN(sums_, SumsWith(statistics));
  ledger_.Add(partial);
  return absl::OkStatus();
}

// All inputs are added to a copy first: a sum without room leaves this object as it was.
absl::StatusOr<StatisticsReducer::Sums> StatisticsReducer::SumsWith(const Sums& more) const {
  Sums sums = sums_;
  for (size_t i = 0; i < sums.size(); ++i) ESPALIER_RETURN_IF_ERROR(sums[i].Merge(more[i]));
  return sums;
}

absl::StatusOr<std::string> StatisticsReducer::Save() const {
  std::string fields;
  io::ByteWriter writer(fields);
  ledger_.Save(writer);
  std::string sums;
  for (const ActivationStatistics& one : sums_) one.AppendTo(sums);
  writer.PutString(sums);
  return SealSaved(SavedKind::kStatistics, fields);
}

absl::Status StatisticsReducer::Absorb(std::string_view saved) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string_view fields,
                            OpenSaved(SavedKind::kStatistics, saved));
  io::ByteReader reader(fields);
  ESPALIER_ASSIGN_OR_RETURN(Ledger ledger, Ledger::Read(/*min_examples=*/0, reader));
  const std::string bytes = reader.GetString();
  if (!reader.ok() || !reader.at_end() || bytes.size() != StatisticsBytes(inputs_)) {
    return SavedError("statistics");
  }
  ESPALIER_ASSIGN_OR_RETURN(const Sums more, Decode(bytes));
  ESPALIER_RETURN_IF_ERROR(ledger_.CheckAbsorb(ledger));
  ESPALIER_ASSIGN_OR_RETURN(sums_, SumsWith(more));
  ledger_.Absorb(std::move(ledger));
  return absl::OkStatus();
}

absl::StatusOr<Reduced> StatisticsReducer::Finish() {
  ESPALIER_ASSIGN_OR_RETURN(Reduced reduced, ledger_.Finish());
  reduced.statistics = std::move(sums_);
  return reduced;
}

}  // namespace espalier::server::reduce
