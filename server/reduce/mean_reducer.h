// MeanReducer: the example-weighted mean of values, losses and scores (federated averaging).
//
// Determinism: values are summed in 128-bit fixed point (fixed_point.h), so that the mean is
//              bit-identical for any order of arrival. With one participant the result is its
//              update exactly where |value| >= 2^-60 (-0 becomes 0); smaller values are off by less
//              than 2^-84.
// Memory:      16 bytes per stored value; 24 per reported score position.
// Range:       one update may reach examples·|value| < 2^36, all together 2^42; a mean past that is
//              refused by Finish() with VALUE_OUT_OF_RANGE whatever the order was.
// Errors:      besides those of Reducer: when the source of values fails in its second reading, or
//              reads differently then, the reducer is unusable and says so (Internal,
//              REDUCER_BROKEN).
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/reduce/fixed_point.h"
#include "server/reduce/ledger.h"
#include "server/reduce/reducer.h"
#include "server/reduce/score_sums.h"
#include "server/reduce/value_check.h"

namespace espalier::server::reduce {

class MeanReducer : public Reducer {
 public:
  MeanReducer(std::shared_ptr<const tensor::ModelTopology> topology,
              const wire::ResultLayout& layout);
  absl::Status Merge(const Partial& partial) override;
  absl::StatusOr<std::string> Save() const override;
  absl::Status Absorb(std::string_view saved) override;
  absl::StatusOr<Reduced> Finish() override;

 private:
  // Second reading; the first one is that of check_.
  absl::Status Accumulate(const Partial& partial);

  wire::ResultLayout layout_;
  ValueCheck check_;
  Ledger ledger_{/*min_examples=*/1};
  std::vector<FixedPoint> sums_;
  ScoreSums scores_;
  SumBound bound_;
  bool broken_ = false;
};

}  // namespace espalier::server::reduce
