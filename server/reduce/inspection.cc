#include "server/reduce/inspection.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/base/status.h"
#include "server/reduce/fixed_point.h"
#include "server/reduce/score_sums.h"

namespace espalier::server::reduce {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000u;

absl::Status NonFiniteError(std::span<const float> values, int64_t offset) {
  size_t i = 0;
  while (LargestMagnitudeBits(values.subspan(i, 1)) < kInfinityBits) ++i;
  return base::InvalidArgument(
      "NON_FINITE", fmt::format("value {} of the update is {}, expected a finite number; lower the "
                                "learning rate or check the data",
                                offset + static_cast<int64_t>(i), values[i]));
}

// Weights and first moments may have any sign; the third set holds means of squares.
absl::Status CheckSigns(std::span<const float> piece, int64_t offset, int64_t stored) {
  for (size_t i = 0; i < piece.size(); ++i) {
    if (offset + static_cast<int64_t>(i) < 2 * stored || piece[i] >= 0) continue;
    return base::InvalidArgument(
        "VALUE_OUT_OF_RANGE",
        fmt::format("value {} of the update is {}, expected a second moment, which is not "
                    "negative; update or replace the worker that sent it",
                    offset + static_cast<int64_t>(i), piece[i]));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CountError(int64_t expected, int64_t found) {
  return base::InvalidArgument("SHAPE_MISMATCH",
                               fmt::format("expected {} values (the stored weights of the step's "
                                           "model and the state that goes with them), found {}",
                                           expected, found));
}

absl::StatusOr<uint32_t> Inspect(const Partial& partial, int64_t expected, int64_t stored,
                                 const std::function<void(std::span<const float>)>& also) {
  if (partial.values_count != expected) return CountError(expected, partial.values_count);
  int64_t seen = 0;
  uint32_t largest = 0;
  if (partial.values) {
    ESPALIER_RETURN_IF_ERROR(partial.values([&](std::span<const float> piece) -> absl::Status {
      const uint32_t piece_largest = LargestMagnitudeBits(piece);
      if (piece_largest >= kInfinityBits) return NonFiniteError(piece, seen);
      ESPALIER_RETURN_IF_ERROR(CheckSigns(piece, seen, stored));
      largest = std::max(largest, piece_largest);
      seen += static_cast<int64_t>(piece.size());
      if (seen > expected) return CountError(expected, seen);
      if (also) also(piece);
      return absl::OkStatus();
    }));
  }
  if (seen != expected) return CountError(expected, seen);
  const uint32_t largest_score = ScoreSums::LargestMagnitude(partial.scores);
  if (largest_score >= kInfinityBits) {
    return base::InvalidArgument("NON_FINITE", "a score of the update is not a finite number");
  }
  return std::max(largest, largest_score);
}

}  // namespace espalier::server::reduce
