// NetworkSweep: a sweep over a network that was trained here. Its performance is its accuracy.
#pragma once

#include "server/methods/pruning/sweep/sweep_program.h"

namespace espalier::server::methods {

class NetworkSweep : public SweepProgram {
 public:
  using SweepProgram::SweepProgram;

 private:
  absl::Status Load(ProgramState& state) const override;
  absl::Status Prune(double sparsity, ProgramState& state) const override;
  bool reports_perplexity() const override { return false; }
  double Performance(const Score& score) const override;
  void DescribeModel(const ProgramState& state, v1::RoundSummary& summary) const override;
  void Deliver(const ProgramState& state, Transition& transition) const override;
};

}  // namespace espalier::server::methods
