#include "server/reduce/reducer.h"

#include <fmt/core.h>

#include "common/base/check.h"
#include "common/base/status.h"
#include "server/reduce/ledger.h"
#include "server/reduce/mean_reducer.h"

namespace espalier::server::reduce {
namespace {

// Sums of scalars; a participant without examples counts as zero (its share of a small test set may
// be empty).
class MetricsReducer : public Reducer {
 public:
  absl::Status Merge(const Partial& partial) override {
    ESPALIER_RETURN_IF_ERROR(ledger_.Check(partial));
    if (partial.values_count != 0 || !partial.scores.empty()) {
      return base::InvalidArgument(
          "SHAPE_MISMATCH",
          fmt::format("expected neither values nor scores in an evaluation, found {} "
                      "values and {} score lists",
                      partial.values_count, partial.scores.size()));
    }
    ledger_.Add(partial);
    return absl::OkStatus();
  }
  absl::StatusOr<Reduced> Finish() override { return ledger_.Finish(); }

 private:
  Ledger ledger_{/*min_examples=*/0};
};

}  // namespace

std::unique_ptr<Reducer> MakeReducer(ReducerKind kind,
                                     std::shared_ptr<const tensor::ModelTopology> topology,
                                     int64_t values_count, bool second_moments) {
  if (kind == ReducerKind::kMetrics) return std::make_unique<MetricsReducer>();
  ESPALIER_CHECK(topology != nullptr, "a mean needs the topology of its values");
  return std::make_unique<MeanReducer>(std::move(topology), values_count, second_moments);
}

}  // namespace espalier::server::reduce
