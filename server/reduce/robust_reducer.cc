#include "server/reduce/robust_reducer.h"

#include <fmt/core.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "common/base/status.h"
#include "common/io/byte_codec.h"
#include "server/reduce/saved.h"

namespace espalier::server::reduce {
namespace {

// Fits the sums of any number of participants (fixed_point.h); no gradient that means anything is
// as large.
constexpr float kMaxScore = 0x1p24F;

double Norm(std::span<const float> values) {
  double sum = 0;
  for (const float value : values) sum += static_cast<double>(value) * value;
  return std::sqrt(sum);
}

double Median(std::vector<double> values) {
  const size_t middle = values.size() / 2;
  std::ranges::sort(values);
  return values.size() % 2 == 1 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

}  // namespace

RobustReducer::RobustReducer(const Aggregation& aggregation,
                             std::shared_ptr<const tensor::ModelTopology> topology,
                             const wire::ResultLayout& layout)
    : aggregation_(aggregation), topology_(std::move(topology)), layout_(layout), check_(layout) {}

absl::Status RobustReducer::Merge(const Partial& partial) {
  ESPALIER_RETURN_IF_ERROR(ledger_.Check(partial));
  ESPALIER_RETURN_IF_ERROR(ScoreSums(topology_).Check(partial.scores));
  Kept kept;
  if (partial.values_count == check_.values_count()) kept.values.reserve(check_.values_count());
  const auto copy = [&kept](std::span<const float> piece) {
    kept.values.insert(kept.values.end(), piece.begin(), piece.end());
  };
  ESPALIER_RETURN_IF_ERROR(check_.Inspect(partial, copy).status());
  // Adding zero makes -0 a 0, as the mean does.
  for (float& value : kept.values) value += 0.0F;
  kept.scores = partial.scores;
  kept_.emplace(partial.participant, std::move(kept));
  ledger_.Add(partial);
  return absl::OkStatus();
}

absl::StatusOr<std::string> RobustReducer::Save() const {
  std::string fields;
  io::ByteWriter writer(fields);
  ledger_.Save(writer);
  for (const auto& [participant, kept] : kept_) {
    writer.PutArray(std::span<const float>(kept.values));
    writer.Put<uint64_t>(kept.scores.size());
    for (const ScoreList& list : kept.scores) {
      writer.PutArray(std::span<const int64_t>(list.positions));
      writer.PutArray(std::span<const float>(list.values));
    }
  }
  return SealSaved(SavedKind::kRobust, fields);
}

absl::StatusOr<RobustReducer::Kept> RobustReducer::ReadKept(io::ByteReader& reader) const {
  Kept kept;
  kept.values = reader.GetArray<float>();
  const auto lists = reader.Get<uint64_t>();
  for (uint64_t i = 0; i < lists && reader.ok(); ++i) {
    ScoreList& list = kept.scores.emplace_back();
    list.positions = reader.GetArray<int64_t>();
    list.values = reader.GetArray<float>();
  }
  const bool fits = reader.ok() &&
                    static_cast<int64_t>(kept.values.size()) == check_.values_count() &&
                    ScoreSums(topology_).Check(kept.scores).ok();
  if (!fits) return SavedError("an update");
  return kept;
}

absl::Status RobustReducer::Absorb(std::string_view saved) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string_view fields, OpenSaved(SavedKind::kRobust, saved));
  io::ByteReader reader(fields);
  ESPALIER_ASSIGN_OR_RETURN(Ledger ledger, Ledger::Read(/*min_examples=*/1, reader));
  // Updates are in the order of the ledger, by participants' names.
  std::map<std::string, Kept> kept;
  for (const Score& score : ledger.Scores()) {
    ESPALIER_ASSIGN_OR_RETURN(kept[score.participant], ReadKept(reader));
  }
  if (!reader.at_end()) return SavedError("number of updates");
  ESPALIER_RETURN_IF_ERROR(ledger_.CheckAbsorb(ledger));
  ledger_.Absorb(std::move(ledger));
  kept_.merge(kept);
  return absl::OkStatus();
}

// Scales each list down to the median norm over all participants, tensor by tensor.
void RobustReducer::EvenOutScores() {
  for (size_t tensor = 0; tensor < topology_->num_tensors(); ++tensor) {
    std::vector<double> norms;
    std::vector<double> given;
    for (const auto& [participant, kept] : kept_) {
      norms.push_back(kept.scores.empty() ? 0 : Norm(kept.scores[tensor].values));
      if (norms.back() > 0) given.push_back(norms.back());
    }
    if (given.empty()) continue;
    const double median = Median(std::move(given));
    size_t k = 0;
    for (auto& [participant, kept] : kept_) {
      const double norm = norms[k++];
      if (norm <= median) continue;
      for (float& value : kept.scores[tensor].values) {
        value = static_cast<float>(value * (median / norm));
      }
    }
  }
}

std::vector<ScoreList> RobustReducer::MeanScores(std::span<const size_t> chosen) const {
  ScoreSums sums(topology_);
  auto next = kept_.begin();
  size_t at = 0;
  for (const size_t k : chosen) {
    std::advance(next, k - at);
    at = k;
    std::vector<ScoreList> lists = next->second.scores;
    for (ScoreList& list : lists) {
      for (float& value : list.values) value = std::clamp(value, -kMaxScore, kMaxScore);
    }
    sums.Add(lists, 1);
  }
  return sums.Means(static_cast<double>(chosen.size()));
}

// Of all participants' share, what has not been refused before.
int64_t RobustReducer::Cut(int64_t count) const {
  const int64_t cut = TrimCount(aggregation_.trim_fraction, count + refused_) - refused_;
  return std::clamp<int64_t>(cut, 0, (count - 1) / 2);
}

absl::Status RobustReducer::Choose(Updates updates, Reduced& reduced) {
  const auto count = static_cast<int64_t>(updates.size());
  std::vector<size_t> chosen(updates.size());
  std::iota(chosen.begin(), chosen.end(), 0);
  if (aggregation_.rule == Rule::kMedian || aggregation_.rule == Rule::kTrimmedMean) {
    reduced.sections = SplitSections(layout_, aggregation_.rule == Rule::kMedian
                                                  ? CoordinateMedian(updates)
                                                  : TrimmedMean(updates, Cut(count)));
    EvenOutScores();
    reduced.scores = MeanScores(chosen);
    return absl::OkStatus();
  }
  const int64_t byzantine = std::max<int64_t>(0, aggregation_.byzantine - refused_);
  if (byzantine > 0 && count < 2 * byzantine + 3) {
    return base::FailedPrecondition(
        "TOO_FEW_UPDATES",
        fmt::format("expected at least {} updates (2 · byzantine + 3), found {}; add "
                    "participants, raise federation.quorum or lower aggregation.byzantine",
                    2 * byzantine + 3, count));
  }
  int64_t selected = 1;
  if (aggregation_.rule == Rule::kMultiKrum) {
    const int64_t most = count - byzantine;
    selected = aggregation_.selected == 0 ? most : std::min(aggregation_.selected, most);
  }
  chosen = LowestScores(KrumScores(updates, layout_.weights, byzantine), selected);
  reduced.sections = SplitSections(layout_, MeanOf(updates, chosen));
  reduced.scores = MeanScores(chosen);
  return absl::OkStatus();
}

absl::StatusOr<Reduced> RobustReducer::Finish() {
  ESPALIER_ASSIGN_OR_RETURN(Reduced reduced, ledger_.Finish());
  std::vector<std::span<const float>> updates;
  updates.reserve(kept_.size());
  for (const auto& [participant, kept] : kept_) updates.emplace_back(kept.values);
  ESPALIER_RETURN_IF_ERROR(Choose(updates, reduced));
  kept_.clear();
  return reduced;
}

}  // namespace espalier::server::reduce
