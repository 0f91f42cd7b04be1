#include "server/reduce/mean_reducer.h"

#include <fmt/core.h>

#include "common/base/status.h"
#include "server/reduce/inspection.h"

namespace espalier::server::reduce {
namespace {

// Bounds are kept in units of 2^-20, in which any number of updates fits.
constexpr int kBoundShift = kFractionBits - 20;
constexpr double kMaxUpdate = 0x1p36;
constexpr FixedPoint kMaxTotal = FixedPoint{1} << (42 + 20);

}  // namespace

MeanReducer::MeanReducer(std::shared_ptr<const tensor::ModelTopology> topology,
                         int64_t values_count)
    : stored_(topology->total_stored()), sums_(values_count, 0), scores_(std::move(topology)) {}

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
  ESPALIER_ASSIGN_OR_RETURN(const uint32_t largest,
                            Inspect(partial, static_cast<int64_t>(sums_.size()), stored_));
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
