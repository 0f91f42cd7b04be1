// ValueCheck: the first reading of what a participant sent, before anything of it is added.
//
// Checks:      the number of values; that none is infinite or NaN; that none of those which cannot
//              be negative is: second moments of Adam, variances, importance.
// Threading:   immutable.
// Errors:      InvalidArgument (SHAPE_MISMATCH, NON_FINITE, VALUE_IMPOSSIBLE), or what the source
//              of values returns.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <utility>

#include "absl/status/statusor.h"
#include "common/wire/model_spec/result_sections.h"
#include "server/reduce/fixed_point.h"
#include "server/reduce/reducer.h"

namespace espalier::server::reduce {

class ValueCheck {
 public:
  // `layout`: what the task's result consists of.
  explicit ValueCheck(wire::ResultLayout layout) : layout_(std::move(layout)) {}

  int64_t values_count() const { return layout_.values; }
  // Returns the bits of the largest magnitude among values and scores. `also` sees every piece of
  // the values that is good.
  absl::StatusOr<uint32_t> Inspect(
      const Partial& partial, const std::function<void(std::span<const float>)>& also = {}) const;

 private:
  // `piece` begins at value `offset` of the update.
  absl::Status CheckSigns(std::span<const float> piece, int64_t offset) const;

  wire::ResultLayout layout_;
};

// The error of an update with another number of values.
absl::Status ValueCountError(int64_t expected, int64_t found);

// The errors of a reducer whose source of values failed, or read differently, the second time: of
// the update of `participant`, and of all later calls.
absl::Status BrokenReducer(std::string_view participant, const absl::Status& why);
absl::Status BrokenReducer();

// Keeps the exact sums of accepted updates within their range, whatever the order of arrival.
class SumBound {
 public:
  // examples · (largest |value|), rounded up to a multiple of 2^-20.
  // Errors: InvalidArgument (VALUE_OUT_OF_RANGE) from 2^36 on.
  static absl::StatusOr<FixedPoint> Of(uint32_t largest_bits, int64_t examples);
  void Add(FixedPoint bound) { total_ += bound; }
  FixedPoint total() const { return total_; }
  // More than any number of updates reaches, with room for sums.
  static constexpr FixedPoint kMost = FixedPoint{1} << 100;
  // Errors: InvalidArgument (VALUE_OUT_OF_RANGE) when all updates together passed 2^42.
  absl::Status Check() const;

 private:
  FixedPoint total_ = 0;
};

}  // namespace espalier::server::reduce
