#include "server/reduce/value_check.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>

#include "common/base/status.h"
#include "server/reduce/score_sums.h"

namespace espalier::server::reduce {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000u;
// Bounds are kept in units of 2^-20, in which any number of updates fits.
constexpr int kBoundShift = kFractionBits - 20;
constexpr double kMaxUpdate = 0x1p36;
constexpr FixedPoint kMaxTotal = FixedPoint{1} << (42 + 20);

absl::Status NonFiniteError(std::span<const float> values, int64_t offset) {
  size_t i = 0;
  while (LargestMagnitudeBits(values.subspan(i, 1)) < kInfinityBits) ++i;
  return base::InvalidArgument(
      "NON_FINITE", fmt::format("value {} of the update is {}, expected a finite number; lower the "
                                "learning rate or check the data",
                                offset + static_cast<int64_t>(i), values[i]));
}

}  // namespace

absl::Status ValueCountError(int64_t expected, int64_t found) {
  return base::InvalidArgument("SHAPE_MISMATCH",
                               fmt::format("expected {} values (the stored weights of the step's "
                                           "model and the state that goes with them), found {}",
                                           expected, found));
}

absl::Status ValueCheck::CheckSigns(std::span<const float> piece, int64_t offset) const {
  const int64_t end = offset + static_cast<int64_t>(piece.size());
  for (const wire::ResultLayout::Range& range : layout_.not_negative) {
    for (int64_t i = std::max(range.begin, offset); i < std::min(range.end, end); ++i) {
      if (piece[i - offset] >= 0) continue;
      return base::InvalidArgument(
          "VALUE_IMPOSSIBLE",
          fmt::format(
              "value {} of the update is {}, expected a variance, second moment or "
              "importance, which is not negative; update or replace the worker that sent it",
              i, piece[i - offset]));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> ValueCheck::Inspect(
    const Partial& partial, const std::function<void(std::span<const float>)>& also) const {
  if (partial.values_count != layout_.values)
    return ValueCountError(layout_.values, partial.values_count);
  int64_t seen = 0;
  uint32_t largest = 0;
  if (partial.values) {
    ESPALIER_RETURN_IF_ERROR(partial.values([&](std::span<const float> piece) -> absl::Status {
      const uint32_t piece_largest = LargestMagnitudeBits(piece);
      if (piece_largest >= kInfinityBits) return NonFiniteError(piece, seen);
      ESPALIER_RETURN_IF_ERROR(CheckSigns(piece, seen));
      largest = std::max(largest, piece_largest);
      seen += static_cast<int64_t>(piece.size());
      if (seen > layout_.values) return ValueCountError(layout_.values, seen);
      if (also) also(piece);
      return absl::OkStatus();
    }));
  }
  if (seen != layout_.values) return ValueCountError(layout_.values, seen);
  const uint32_t largest_score = ScoreSums::LargestMagnitude(partial.scores);
  if (largest_score >= kInfinityBits) {
    return base::InvalidArgument("NON_FINITE", "a score of the update is not a finite number");
  }
  return std::max(largest, largest_score);
}

absl::StatusOr<FixedPoint> SumBound::Of(uint32_t largest_bits, int64_t examples) {
  const float largest = std::bit_cast<float>(largest_bits);
  if (static_cast<double>(largest) * static_cast<double>(examples) >= kMaxUpdate) {
    return base::InvalidArgument(
        "VALUE_OUT_OF_RANGE",
        fmt::format(
            "expected |value|·examples below 2^36, found {} · {}; the training diverged: lower "
            "the learning rate",
            largest, examples));
  }
  return (ToFixedPoint(largest, examples) >> kBoundShift) + 1;
}

absl::Status SumBound::Check() const {
  if (total_ <= kMaxTotal) return absl::OkStatus();
  return base::InvalidArgument(
      "VALUE_OUT_OF_RANGE",
      "the sum of |value|·examples over all updates exceeds 2^42; the training "
      "diverged: lower the learning rate");
}

absl::Status BrokenReducer(std::string_view participant, const absl::Status& why) {
  return base::MakeError(absl::StatusCode::kInternal, "REDUCER_BROKEN",
                         fmt::format("the update of \"{}\" changed or vanished while it was added: "
                                     "{}",
                                     participant, base::MessageOf(why)));
}

absl::Status BrokenReducer() {
  return base::MakeError(absl::StatusCode::kInternal, "REDUCER_BROKEN",
                         "an earlier update could not be read a second time; repeat the step");
}

}  // namespace espalier::server::reduce
