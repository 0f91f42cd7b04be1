// SetProgram: after each round the weakest weights go and as many grow at random places.
//
// Ownership, threading, determinism, errors: as Program.
// Source:      Mocanu et al., Nature Communications 9, 2018.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/methods/structure.h"
#include "server/methods/training_program.h"

namespace espalier::server::methods {

struct SetOptions {
  Budget budget;
  double zeta;           // share of each layer's weights that is replaced
  int64_t evolve_every;  // rounds
  std::string drop;      // signed, magnitude or random
  bool grow_normal;      // new weights are drawn, else 0
  bool final_removal;
};

// The parameters of a method of this kind, with these defaults.
config::ParameterSchema SetParameters(double epsilon, double zeta);
SetOptions SetOptionsOf(const v1::JobSpec& spec, const config::Parameters& parameters);

class SetProgram : public TrainingProgram {
 public:
  SetProgram(const v1::JobSpec& spec, SetOptions options,
             std::shared_ptr<const pretrained::ModelLibrary> library)
      : TrainingProgram(spec, std::move(library)), options_(std::move(options)) {}

 protected:
  absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> InitialStructure(
      const tensor::ModelLayout& layout) const override;
  bool evolves() const override { return true; }
  v1::PrivateUpdate PrivateRule(int32_t round) const override;
  absl::StatusOr<Evolution> PlanEvolution(const ProgramState& state,
                                          const reduce::Reduced&) const override;
  absl::StatusOr<Evolution> FinalRemoval(const ProgramState& state) const override;
  std::vector<float> GrownWeights(const ProgramState& state,
                                  const StructureChange::Tensor& change) const override;

  // What a sparse tensor loses in the round in work: ascending indices of its values.
  std::vector<int32_t> Dropped(const ProgramState& state, size_t tensor) const;

 private:
  uint64_t Key(const ProgramState& state, std::string_view purpose, uint64_t tensor) const;
  // What every sparse tensor loses in the round in work; nothing is grown yet.
  Evolution Removal(const ProgramState& state) const;

  SetOptions options_;
};

}  // namespace espalier::server::methods
