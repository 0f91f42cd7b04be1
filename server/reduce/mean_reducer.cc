#include "server/reduce/mean_reducer.h"

#include <span>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/io/byte_codec.h"
#include "server/reduce/saved.h"

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
  if (broken_) return BrokenReducer();
  ESPALIER_RETURN_IF_ERROR(ledger_.Check(partial));
  ESPALIER_RETURN_IF_ERROR(scores_.Check(partial.scores));
  ESPALIER_ASSIGN_OR_RETURN(const uint32_t largest, check_.Inspect(partial));
  ESPALIER_ASSIGN_OR_RETURN(const FixedPoint bound, SumBound::Of(largest, partial.examples));
  if (absl::Status status = Accumulate(partial); !status.ok()) {
    broken_ = true;
    return BrokenReducer(partial.participant, status);
  }
  scores_.Add(partial.scores, partial.examples);
  ledger_.Add(partial);
  bound_.Add(bound);
  return absl::OkStatus();
}

absl::StatusOr<std::string> MeanReducer::Save() const {
  if (broken_) return BrokenReducer();
  std::string fields;
  io::ByteWriter writer(fields);
  ledger_.Save(writer);
  writer.PutArray(std::span<const FixedPoint>(sums_));
  scores_.Save(writer);
  writer.Put<FixedPoint>(bound_.total());
  return SealSaved(SavedKind::kMean, fields);
}

absl::Status MeanReducer::Absorb(std::string_view saved) {
  if (broken_) return BrokenReducer();
  ESPALIER_ASSIGN_OR_RETURN(const std::string_view fields, OpenSaved(SavedKind::kMean, saved));
  io::ByteReader reader(fields);
  ESPALIER_ASSIGN_OR_RETURN(Ledger ledger, Ledger::Read(/*min_examples=*/1, reader));
  const auto sums = reader.GetArray<FixedPoint>();
  if (sums.size() != sums_.size()) return SavedError("number of values");
  ESPALIER_ASSIGN_OR_RETURN(const ScoreSums scores, ScoreSums::Read(scores_.topology(), reader));
  const auto bound = reader.Get<FixedPoint>();
  if (!reader.ok() || !reader.at_end() || bound < 0 || bound > SumBound::kMost)
    return SavedError("bound");
  ESPALIER_RETURN_IF_ERROR(ledger_.CheckAbsorb(ledger));
  ledger_.Absorb(std::move(ledger));
  AddSums(sums, sums_);
  scores_.Absorb(scores);
  bound_.Add(bound);
  return absl::OkStatus();
}

absl::StatusOr<Reduced> MeanReducer::Finish() {
  if (broken_) return BrokenReducer();
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
