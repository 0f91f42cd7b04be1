// PrunedAtStart: one step that scores every weight of a dense initial model, then training of the
// weights with the best scores. A method says how to score.
//
// Selection:   round(density · weights) over all sparsifiable tensors together, by larger
//              |score|, among equals by the lower position in layout order.
// Memory:      of the coordinator 4 bytes per dense weight for values and for scores, 16 while
//              they are summed, up to 32 per kept weight to select; workers: v1::ScoreTask.
// Phases:      "select_score", then those of TrainingProgram.
// Ownership, threading, determinism, errors: as Program.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {

struct PrunedAtStartOptions {
  double density = 1;
  // Values of the kept weights: those that were scored, or drawn anew for the sparse structure.
  bool fresh_values = false;
};

class PrunedAtStart : public TrainingProgram {
 public:
  PrunedAtStart(const v1::JobSpec& spec, PrunedAtStartOptions options)
      : TrainingProgram(spec), options_(options) {}

 protected:
  // Scores all positions of the sparsifiable tensors, in layout order.
  virtual Step ScoreStep() const = 0;
  // The model whose initializers draw the dense values. Default: the job's.
  virtual v1::ModelSpec DenseSpec() const { return spec().model(); }

  absl::StatusOr<std::optional<Transition>> StartPrelude() const final;
  absl::StatusOr<Transition> NextInPrelude(ProgramState state,
                                           const reduce::Reduced& reduced) const final;

 private:
  PrunedAtStartOptions options_;
};

// Weights that `density` leaves of all sparsifiable ones of `layout`.
int64_t KeptCount(const tensor::ModelLayout& layout, double density);

// The structure of the `count` weights of largest |score|. `scores` has one entry for every
// position of the sparsifiable tensors, in layout order. A tensor that keeps all is dense (null).
absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> KeepLargest(
    const tensor::ModelLayout& layout, std::span<const float> scores, int64_t count);

// The parameters `density` and `initial_weights`.
config::ParameterSchema PrunedAtStartParameters();
PrunedAtStartOptions PrunedAtStartOptionsOf(const config::Parameters& parameters);

// MethodDeclaration::demand.
absl::StatusOr<CoordinatorDemand> PrunedAtStartDemand(const v1::JobSpec& spec,
                                                      const config::Parameters& parameters);

// Appends violations for a model without sparsifiable layers, a density that leaves no weight, and
// a dense model or scores too large for a task or an update.
void ValidatePrunedAtStart(const v1::JobSpec& spec, const config::Parameters& parameters,
                           std::vector<config::Violation>& violations);

}  // namespace espalier::server::methods
