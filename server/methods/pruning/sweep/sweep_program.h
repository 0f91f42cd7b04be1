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
#include <string>
#include <vector>

#include "server/methods/program.h"
#include "server/methods/pruning/evaluation.h"
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
  absl::StatusOr<Transition> Start() const final;
  absl::StatusOr<Transition> Next(ProgramState state, reduce::Reduced reduced) const final;

 protected:
  const std::string& model() const { return spec_.model().pretrained(); }
  const pretrained::ModelLibrary& library() const { return *library_; }

 private:
  // Puts the original into `state`.
  virtual absl::Status Load(ProgramState& state) const = 0;
  // Puts the original into `state`, pruned.
  virtual absl::Status Prune(double sparsity, ProgramState& state) const = 0;
  // Whether losses are reported as perplexities too.
  virtual bool reports_perplexity() const = 0;
  // By what the knee is found; more is better.
  virtual double Performance(const Score& score) const = 0;
  // Says how many weights the model has by now.
  virtual void DescribeModel(const ProgramState& state, v1::RoundSummary& summary) const = 0;
  // Hands over the pruned model.
  virtual void Deliver(const ProgramState& state, Transition& transition) const = 0;

  v1::JobSpec spec_;
  SweepSettings settings_;
  std::shared_ptr<const pretrained::ModelLibrary> library_;
};

}  // namespace espalier::server::methods
