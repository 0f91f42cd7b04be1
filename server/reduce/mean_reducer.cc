#include "server/reduce/mean_reducer.h"

#include <fmt/core.h>

#include <algorithm>

#include "common/base/status.h"

namespace espalier::server::reduce {
namespace {

constexpr uint32_t kInfinityBits = 0x7f800000u;
// Bounds are kept in units of 2^-20, in which any number of updates fits.
constexpr int kBoundShift = kFractionBits - 20;
constexpr double kMaxUpdate = 0x1p36;
constexpr FixedPoint kMaxTotal = FixedPoint{1} << (42 + 20);

absl::Status CountError(int64_t expected, int64_t found) {
  return base::InvalidArgument("SHAPE_MISMATCH",
                               fmt::format("expected {} values (the stored weights of the step's "
                                           "model and the state that goes with them), found {}",
                                           expected, found));
}

absl::Status NonFiniteError(std::span<const float> values, int64_t offset) {
  size_t i = 0;
  while (LargestMagnitudeBits(values.subspan(i, 1)) < kInfinityBits) ++i;
  return base::InvalidArgument(
      "NON_FINITE", fmt::format("value {} of the update is {}, expected a finite number; lower the "
                                "learning rate or check the data",
                                offset + static_cast<int64_t>(i), values[i]));
}

}  // namespace

MeanReducer::MeanReducer(std::shared_ptr<const tensor::ModelTopology> topology,
                         int64_t values_count, bool second_moments)
    : second_moments_(second_moments),
      stored_(topology->total_stored()),
      sums_(values_count, 0),
      scores_(std::move(topology)) {}

absl::Status MeanReducer::CheckSigns(std::span<const float> piece, int64_t offset) const {
  // Weights, first moments and gradients may have any sign; the third set holds means of squares.
  if (!second_moments_) return absl::OkStatus();
  const auto end = std::min(offset + static_cast<int64_t>(piece.size()), 3 * stored_);
  for (int64_t i = std::max<int64_t>(0, 2 * stored_ - offset); i < end - offset; ++i) {
    if (piece[i] >= 0) continue;
    return base::InvalidArgument(
        "VALUE_OUT_OF_RANGE",
        fmt::format("value {} of the update is {}, expected a second moment, which is not "
                    "negative; update or replace the worker that sent it",
                    offset + i, piece[i]));
  }
  return absl::OkStatus();
}

absl::StatusOr<uint32_t> MeanReducer::Inspect(const Partial& partial) const {
  const auto expected = static_cast<int64_t>(sums_.size());
  if (partial.values_count != expected) return CountError(expected, partial.values_count);
  int64_t seen = 0;
  uint32_t largest = 0;
  if (partial.values) {
    ESPALIER_RETURN_IF_ERROR(partial.values([&](std::span<const float> piece) -> absl::Status {
      const uint32_t piece_largest = LargestMagnitudeBits(piece);
      if (piece_largest >= kInfinityBits) return NonFiniteError(piece, seen);
      ESPALIER_RETURN_IF_ERROR(CheckSigns(piece, seen));
      largest = std::max(largest, piece_largest);
      seen += static_cast<int64_t>(piece.size());
      return seen > expected ? CountError(expected, seen) : absl::OkStatus();
    }));
  }
  if (seen != expected) return CountError(expected, seen);
  const uint32_t largest_score = ScoreSums::LargestMagnitude(partial.scores);
  if (largest_score >= kInfinityBits) {
    return base::InvalidArgument("NON_FINITE", "a score of the update is not a finite number");
  }
  return std::max(largest, largest_score);
}

absl::StatusOr<FixedPoint> MeanReducer::Bound(uint32_t largest_bits, int64_t examples) const {
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

absl::Status MeanReducer::Accumulate(const Partial& partial) {
  if (!partial.values) return absl::OkStatus();
  size_t seen = 0;
  const absl::Status read = partial.values([&](std::span<const float> piece) -> absl::Status {
    if (piece.size() > sums_.size() - seen) return CountError(sums_.size(), seen + piece.size());
    AddWeighted(piece, partial.examples, std::span(sums_).subspan(seen, piece.size()));
    seen += piece.size();
    return absl::OkStatus();
  });
  if (!read.ok()) return read;
  return seen == sums_.size() ? absl::OkStatus() : CountError(sums_.size(), seen);
}

absl::Status MeanReducer::Merge(const Partial& partial) {
  if (broken_) {
    return base::MakeError(absl::StatusCode::kInternal, "REDUCER_BROKEN",
                           "an earlier update could not be read a second time; repeat the step");
  }
  ESPALIER_RETURN_IF_ERROR(ledger_.Check(partial));
  ESPALIER_RETURN_IF_ERROR(scores_.Check(partial.scores));
  ESPALIER_ASSIGN_OR_RETURN(const uint32_t largest, Inspect(partial));
  ESPALIER_ASSIGN_OR_RETURN(const FixedPoint bound, Bound(largest, partial.examples));
  if (absl::Status status = Accumulate(partial); !status.ok()) {
    broken_ = true;
    return base::MakeError(
        absl::StatusCode::kInternal, "REDUCER_BROKEN",
        fmt::format("the update of \"{}\" changed or vanished while it was added: {}",
                    partial.participant, base::MessageOf(status)));
  }
  scores_.Add(partial.scores, partial.examples);
  ledger_.Add(partial);
  bound_ += bound;
  return absl::OkStatus();
}

absl::StatusOr<Reduced> MeanReducer::Finish() {
  if (broken_) {
    return base::MakeError(absl::StatusCode::kInternal, "REDUCER_BROKEN",
                           "an update could not be read a second time; repeat the step");
  }
  ESPALIER_ASSIGN_OR_RETURN(Reduced reduced, ledger_.Finish());
  if (bound_ > kMaxTotal) {
    return base::InvalidArgument(
        "VALUE_OUT_OF_RANGE",
        "the sum of |value|·examples over all updates exceeds 2^42; the training "
        "diverged: lower the learning rate");
  }
  const auto total = static_cast<double>(reduced.examples);
  reduced.values.reserve(sums_.size());
  for (const FixedPoint sum : sums_) reduced.values.push_back(MeanFromFixedPoint(sum, total));
  reduced.scores = scores_.Means(total);
  sums_ = {};
  return reduced;
}

}  // namespace espalier::server::reduce
