// StatisticsReducer: exact sums of activation statistics (common/sparsity/pruning).
//
// Shapes:      a partial's statistics are one encoded ActivationStatistics for each input of the
//              task, one after the other.
// Memory:      the sums of one step: 48 bytes per column, with Gram 8 per pair of columns more, and
//              as much again while a partial is merged.
// Determinism: sums of integers: independent of arrival and of how examples are divided.
// Errors:      besides those of Reducer: InvalidArgument STATISTICS_INVALID, VALUE_OUT_OF_RANGE.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "server/reduce/ledger.h"
#include "server/reduce/reducer.h"

namespace espalier::server::reduce {

struct StatisticsInput {
  int64_t columns = 0;
  bool gram = false;
};

// Bytes that a partial of these inputs carries.
uint64_t StatisticsBytes(const std::vector<StatisticsInput>& inputs);

class StatisticsReducer : public Reducer {
 public:
  explicit StatisticsReducer(std::vector<StatisticsInput> inputs);
  absl::Status Merge(const Partial& partial) override;
  absl::StatusOr<std::string> Save() const override;
  absl::Status Absorb(std::string_view saved) override;
  absl::StatusOr<Reduced> Finish() override;

 private:
  using Sums = std::vector<sparsity::ActivationStatistics>;

  absl::StatusOr<Sums> Read(const Partial& partial) const;
  absl::StatusOr<Sums> Decode(std::string_view bytes) const;
  // What the sums are with `more` added. Errors: those of ActivationStatistics::Merge().
  absl::StatusOr<Sums> SumsWith(const Sums& more) const;

  std::vector<StatisticsInput> inputs_;
  Ledger ledger_{/*min_examples=*/0};
  Sums sums_;
};

}  // namespace espalier::server::reduce
