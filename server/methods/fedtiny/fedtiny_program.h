// FedTinyProgram: a pool of pruned candidates, chosen by recalibrated batch normalisation, then
// training with progressive pruning.
//
// Phases:      "select_statistics" and "select_loss" of the candidates, which are runs side by side
//              (kCandidatesAtOnce of them), then those of GrowingProgram.
// Source:      Huang et al., ICDCS 2023.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "server/methods/growth/growing_program.h"

namespace espalier::server::methods {

struct FedTinyOptions {
  double density;
  int64_t pool_size;
  std::string selection;  // adaptive, vanilla or first
  bool exponential;       // statistics by the layers' momentum, else exact averages
  int64_t passes;
  double development_fraction;
  bool pooled_variance;
  std::string progressive;  // block, layer, entire or none
  bool backward;
  int64_t blocks;
  double alpha;
  int64_t update_every;
  int64_t stop_round;
  GrowthOptions growth;
};

// A larger pool is compared in groups, so that the coordinator need not have all of it at once.
inline constexpr int64_t kCandidatesAtOnce = 10;

class FedTinyProgram : public GrowingProgram {
 public:
  // Where model.pretrained names a checkpoint, `library` has it.
  FedTinyProgram(const v1::JobSpec& spec, FedTinyOptions options,
                 std::shared_ptr<const pretrained::ModelLibrary> library)
      : GrowingProgram(spec, options.growth, std::move(library)), options_(std::move(options)) {}

  // After steps of the selection.
  absl::StatusOr<Transition> NextOfRuns(ProgramState state,
                                        std::vector<reduce::Reduced> reduced) const override;

 protected:
  bool evolves() const override { return options_.progressive != "none"; }
  absl::StatusOr<std::optional<Transition>> StartPrelude() const override;
  // Those of one block, from the output backwards, every `update_every` rounds.
  std::vector<int64_t> UpdateCounts(const ProgramState& state) const override;

 private:
  struct Selection;

  absl::StatusOr<tensor::ModelState> Candidate(int64_t number) const;
  // First step for the next candidates: their running statistics, or at once their losses where
  // they have none or the initial ones are to be used.
  absl::StatusOr<Transition> Compare(ProgramState state, const Selection& selection) const;
  Step StatisticsStep() const;
  Step LossStep() const;
  static double LossOf(const reduce::Reduced& reduced);
  absl::StatusOr<Transition> AfterStatistics(ProgramState state,
                                             const std::vector<reduce::Reduced>& reduced) const;
  absl::StatusOr<Transition> AfterLosses(ProgramState state, Selection selection,
                                         const std::vector<reduce::Reduced>& reduced) const;
  // The sparse tensors that adjustment `index` (from 0) may change.
  std::vector<size_t> Block(const tensor::ModelTopology& topology, int64_t index) const;

  FedTinyOptions options_;
};

// MethodDeclaration::stored_counts. All candidates have as many weights in all; those of the first
// are close to any other's.
absl::StatusOr<std::vector<int64_t>> PoolCounts(const v1::JobSpec& spec,
                                                const config::Parameters& parameters);

// MethodDeclaration::demand.
absl::StatusOr<CoordinatorDemand> FedTinyDemand(const v1::JobSpec& spec,
                                                const config::Parameters& parameters);

// What a method of this kind sets for itself.
struct FedTinyDefaults {
  double density = 0.01;
  double alpha = 0.3;
};
config::ParameterSchema FedTinyParameters(const FedTinyDefaults& defaults);
void ValidateFedTiny(const v1::JobSpec& spec, const config::Parameters& parameters,
                     std::vector<config::Violation>& violations);
FedTinyOptions FedTinyOptionsOf(const v1::JobSpec& spec, const config::Parameters& parameters);

}  // namespace espalier::server::methods
