// LanguageSweep: a sweep over a language model in parts. Its performance is 1 / perplexity.
#pragma once

#include "server/methods/pruning/sweep/sweep_program.h"

namespace espalier::server::methods {

class LanguageSweep : public SweepProgram {
 public:
  using SweepProgram::SweepProgram;

 private:
  absl::Status Load(ProgramState& state) const override;
  absl::Status Prune(double sparsity, ProgramState& state) const override;
  bool reports_perplexity() const override { return true; }
  double Performance(const Score& score) const override;
  void DescribeModel(const ProgramState& state, v1::RoundSummary& summary) const override;
  void Deliver(const ProgramState& state, Transition& transition) const override;
};

}  // namespace espalier::server::methods
