#include "server/reduce/reducer.h"

#include <fmt/core.h>

#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/io/byte_codec.h"
#include "server/reduce/decorators.h"
#include "server/reduce/ledger.h"
#include "server/reduce/mean_reducer.h"
#include "server/reduce/owners_reducer.h"
#include "server/reduce/robust_reducer.h"
#include "server/reduce/saved.h"

namespace espalier::server::reduce {
namespace {

// Sums of scalars; a participant without examples counts as zero (its share of a small test set may
// be empty).
class MetricsReducer : public Reducer {
 public:
  absl::Status Merge(const Partial& partial) override {
    ESPALIER_RETURN_IF_ERROR(ledger_.Check(partial));
    if (partial.values_count != 0 || !partial.scores.empty() || partial.statistics) {
      return base::InvalidArgument(
          "SHAPE_MISMATCH",
          fmt::format("expected neither values nor scores in an evaluation, found {} "
                      "values and {} score lists",
                      partial.values_count, partial.scores.size()));
    }
    if (!counts_.empty() && counts_.size() != partial.counts.size()) {
      return base::InvalidArgument(
          "SHAPE_MISMATCH", fmt::format("expected {} counts as before, found {}", counts_.size(),
                                        partial.counts.size()));
    }
    counts_.resize(partial.counts.size());
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += partial.counts[i];
    ledger_.Add(partial);
    return absl::OkStatus();
  }
  absl::StatusOr<std::string> Save() const override {
    std::string fields;
    io::ByteWriter writer(fields);
    ledger_.Save(writer);
    writer.PutArray(std::span<const int64_t>(counts_));
    return SealSaved(SavedKind::kMetrics, fields);
  }
  absl::Status Absorb(std::string_view saved) override {
    ESPALIER_ASSIGN_OR_RETURN(const std::string_view fields, OpenSaved(SavedKind::kMetrics, saved));
    io::ByteReader reader(fields);
    ESPALIER_ASSIGN_OR_RETURN(Ledger ledger, Ledger::Read(/*min_examples=*/0, reader));
    const auto counts = reader.GetArray<int64_t>();
    if (!reader.ok() || !reader.at_end()) return SavedError("counts");
    // Without a participant there are no counts, whatever the task asks for.
    if (ledger.empty()) return absl::OkStatus();
    if (!ledger_.empty() && counts_.size() != counts.size()) return SavedError("number of counts");
    ESPALIER_RETURN_IF_ERROR(ledger_.CheckAbsorb(ledger));
    counts_.resize(counts.size());
    for (size_t i = 0; i < counts_.size(); ++i) counts_[i] += counts[i];
    ledger_.Absorb(std::move(ledger));
    return absl::OkStatus();
  }
  absl::StatusOr<Reduced> Finish() override {
    std::vector<Score> scores = ledger_.Scores();
    ESPALIER_ASSIGN_OR_RETURN(Reduced reduced, ledger_.Finish());
    reduced.by_participant = std::move(scores);
    reduced.counts = std::move(counts_);
    return reduced;
  }

 private:
  Ledger ledger_{/*min_examples=*/0};
  std::vector<int64_t> counts_;
};

}  // namespace

std::span<const float> Reduced::Section(v1::SectionKind kind) const {
  const auto found = sections.find(kind);
  return found == sections.end() ? std::span<const float>() : found->second;
}

std::vector<float> Reduced::Take(v1::SectionKind kind) {
  const auto found = sections.find(kind);
  if (found == sections.end()) return {};
  std::vector<float> values = std::move(found->second);
  sections.erase(found);
  return values;
}

std::map<v1::SectionKind, std::vector<float>> SplitSections(const wire::ResultLayout& layout,
                                                            std::vector<float> values) {
  std::map<v1::SectionKind, std::vector<float>> sections;
  // From the last one on, so that the first and largest is moved and not copied.
  for (size_t i = layout.parts.size(); i-- > 0;) {
    const auto& [kind, range] = layout.parts[i];
    if (i == 0) {
      sections[kind] = std::move(values);
      break;
    }
    sections[kind].assign(values.begin() + range.begin, values.begin() + range.end);
    values.resize(range.begin);
    values.shrink_to_fit();
  }
  return sections;
}

std::unique_ptr<Reducer> MakeReducer(ReducerKind kind,
                                     std::shared_ptr<const tensor::ModelTopology> topology,
                                     const wire::ResultLayout& layout,
                                     const Aggregation& aggregation,
                                     std::span<const float> reference) {
  if (kind == ReducerKind::kMetrics) return std::make_unique<MetricsReducer>();
  ESPALIER_CHECK(topology != nullptr, "values are folded with the topology they are of");
  if (kind == ReducerKind::kOwnersMean) {
    return std::make_unique<OwnersReducer>(std::move(topology), layout);
  }
  std::unique_ptr<Reducer> reducer;
  if (aggregation.rule == Rule::kMean) {
    reducer = std::make_unique<MeanReducer>(topology, layout);
  } else {
    reducer = std::make_unique<RobustReducer>(aggregation, topology, layout);
  }
  if (aggregation.keep_updates) {
    reducer = std::make_unique<KeepingReducer>(std::move(reducer), topology->total_stored());
  }
  if (aggregation.clip_norm > 0) {
    reducer = std::make_unique<ClippingReducer>(std::move(reducer), aggregation.clip_norm, layout,
                                                reference);
  }
  return reducer;
}

}  // namespace espalier::server::reduce
