// SweepProgram: one trained model, magnitude-pruned over all its layers together at many
// sparsities, evaluated at each, and the knee of the curve.
//
// Steps:       evaluate the model; for each sparsity: prune the original → evaluate. A round is a
//              sparsity.
// Memory:      a network, or one block of a language model and 512 KiB of counts.
// Determinism: selection by count over (|weight|, block, layer, position).
// Errors:      those of the library.
// Source:      Jaiswal, Liu, Chen, Wang, "The Emergence of Essential Sparsity in Large Pre-trained
//              Models: The Weights that Matter", NeurIPS 2023 (arXiv 2306.03805); without the
//              fine-tuning that follows there.
#pragma once

#include <memory>
#include <vector>

#include "server/methods/program.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {

struct SweepSettings {
  std::vector<double> sparsities;  // ascending
  double tolerance = 0.01;
};

class SweepProgram : public Program {
 public:
  SweepProgram(const v1::JobSpec& spec, SweepSettings settings,
               std::shared_ptr<const pretrained::ModelLibrary> library);
  absl::StatusOr<Transition> Start() const override;
  absl::StatusOr<Transition> Next(ProgramState state, reduce::Reduced reduced) const override;

 private:
  bool is_language() const;
  // The original, pruned for the round in work.
  absl::Status PruneFor(ProgramState& state) const;
  void Describe(const ProgramState& state, v1::RoundSummary& summary) const;

  v1::JobSpec spec_;
  SweepSettings settings_;
  std::shared_ptr<const pretrained::ModelLibrary> library_;
};

}  // namespace espalier::server::methods
