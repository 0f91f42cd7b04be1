#include "server/reduce/mean_reducer.h"

#include <fmt/core.h>

#include <utility>
#include <vector>

#include "common/base/status.h"

namespace espalier::server::reduce {
MeanReducer::MeanReducer(std::shared_ptr<const tensor::ModelTopology> topology,
                         const wire::ResultLayout& layout)
    : layout_(layout), check_(layout), sums_(layout.values, 0), scores_(std::move(topology)) {}

absl::Status MeanReducer::Accumulate(const Partial& partial) {
  if (!partial.values) return absl::OkStatus();
  size_t seen = 0;
  const absl::Status read = partial.values([&](std::span<const float> piece) -> absl::Status {
    if (piece.size() > sums_.size() - seen)
      return ValueCountError(sums_.size(), seen + piece.size());
    AddWeighted(piece, partial.examples, std::span(sums_).subspan(seen, piece.size()));
    seen += piece.size();
    return absl::OkStatus();
  });
  if (!read.ok()) return read;
  return seen == sums_.size() ? absl::OkStatus() : ValueCountError(sums_.size(), seen);
}

absl::Status MeanReducer::Merge(const Partial& partial) {
  if (broken_) {
    return base::MakeError(absl::StatusCode::kInternal, "REDUCER_BROKEN",
                           "an earlier update could not be read a second time; repeat the step");
  }
  ESPALIER_RETURN_IF_ERROR(ledger_.Check(partial));
  ESPALIER_RETURN_IF_ERROR(scores_.Check(partial.scores));
  ESPALIER_ASSIGN_OR_RETURN(const uint32_t largest, check_.Inspect(partial));
  ESPALIER_ASSIGN_OR_RETURN(const FixedPoint bound, SumBound::Of(largest, partial.examples));
  if (absl::Status status = Accumulate(partial); !status.ok()) {
    broken_ = true;
    return base::MakeError(
        absl::StatusCode::kInternal, "REDUCER_BROKEN",
        fmt::format("the update of \"{}\" changed or vanished while it was added: {}",
                    partial.participant, base::MessageOf(status)));
  }
  scores_.Add(partial.scores, partial.examples);
  ledger_.Add(partial);
  bound_.Add(bound);
  return absl::OkStatus();
}

absl::StatusOr<Reduced> MeanReducer::Finish() {
  if (broken_) {
    return base::MakeError(absl::StatusCode::kInternal, "REDUCER_BROKEN",
                           "an update could not be read a second time; repeat the step");
  }
  ESPALIER_ASSIGN_OR_RETURN(Reduced reduced, ledger_.Finish());
  ESPALIER_RETURN_IF_ERROR(bound_.Check());
  const auto total = static_cast<double>(reduced.examples);
  std::vector<float> means;
  means.reserve(sums_.size());
  for (const FixedPoint sum : sums_) means.push_back(MeanFromFixedPoint(sum, total));
  reduced.scores = scores_.Means(total);
  sums_ = {};
  reduced.sections = SplitSections(layout_, std::move(means));
  return reduced;
}

}  // namespace espalier::server::reduce
