// RobustReducer: median, trimmed mean, Krum and Multi-Krum (aggregation.h): results that a few
// participants with arbitrary updates cannot move far. All participants count alike: a number of
// examples is only what a participant says of itself. Losses and hits are summed as by the mean.
//
// Values:      median and trimmed mean treat every value by itself: weights, running statistics and
//              optimizer state. Krum compares updates by their learned weights alone, whose scales
//              are alike; running statistics and optimizer state are those of the chosen updates.
// Scores:      with Krum the mean of the chosen participants' lists. Otherwise each participant's
//              list is first scaled down to the median L2 norm of its tensor's lists (those that
//              are not 0), then averaged over all: nobody's gradients weigh more than a typical
//              participant's. A position that a participant did not report counts as 0 there;
//              |score| is cut at 2^24.
// Memory:      4 bytes per value and participant until Finish(), which needs as many again for the
//              result, and with Krum 8 per pair of participants.
// Time:        median and trimmed mean values × n·log²n for n participants, 256 values at a time;
//              Krum values × n².
// Determinism: participants are taken in the order of their names, so that the result does not
//              depend on arrival. With one participant it is that update exactly (-0 becomes 0).
// Refused:     hostile updates that were refused before are not looked for again: Krum expects
//              that many fewer, and the trimmed mean cuts that many fewer off at each end.
// Errors:      besides those of Reducer: Finish() returns FailedPrecondition (TOO_FEW_UPDATES) when
//              Krum has fewer than 2·byzantine + 3 updates and `byzantine` is not 0.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "server/reduce/aggregation.h"
#include "server/reduce/ledger.h"
#include "server/reduce/reducer.h"
#include "server/reduce/robust_rules.h"
#include "server/reduce/score_sums.h"
#include "server/reduce/value_check.h"

namespace espalier::server::reduce {

class RobustReducer : public Reducer {
 public:
  RobustReducer(const Aggregation& aggregation,
                std::shared_ptr<const tensor::ModelTopology> topology,
                const wire::ResultLayout& layout);
  absl::Status Merge(const Partial& partial) override;
  void Refused(int64_t participants) override { refused_ = participants; }
  absl::StatusOr<std::string> Save() const override;
  absl::Status Absorb(std::string_view saved) override;
  absl::StatusOr<Reduced> Finish() override;

 private:
  struct Kept {
    std::vector<float> values;
    std::vector<ScoreList> scores;
  };
  // An update that Save() wrote. Errors: SAVED_SUMS_INVALID.
  absl::StatusOr<Kept> ReadKept(io::ByteReader& reader) const;
  // Fills in the values and scores of `reduced` from `updates`.
  absl::Status Choose(Updates updates, Reduced& reduced);
  int64_t Cut(int64_t count) const;
  void EvenOutScores();
  std::vector<ScoreList> MeanScores(std::span<const size_t> chosen) const;

  Aggregation aggregation_;
  int64_t refused_ = 0;
  std::shared_ptr<const tensor::ModelTopology> topology_;
  wire::ResultLayout layout_;
  ValueCheck check_;
  Ledger ledger_{/*min_examples=*/1};
  std::map<std::string, Kept> kept_;
};

}  // namespace espalier::server::reduce
