// What a training program keeps in ProgramState::memory.
//
// Memory:  with an evolving structure one bit per sparsifiable weight (coordinator only); above
//          2^31 sparsifiable weights the bits are left out and the explored share is reported as 0.
// Errors:  Decode() returns DataLoss (STATE_CORRUPT) for bytes that Encode() did not make.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "server/methods/evolution.h"

namespace espalier::server::methods {

struct ProgramMemory {
  double explored = 0;        // share of sparsifiable positions that were active at some time
  std::string explored_bits;  // sparsity::Explored; empty when not kept
  Evolution planned;          // decided when training was reduced, carried out after evaluation
  std::string own;            // of the method: TrainingProgram::PlanFromMemory()
  std::string notes;          // the method's own, between training and planning

  std::string Encode() const;
  static absl::StatusOr<ProgramMemory> Decode(std::string_view bytes);

  // Begins with `topology` explored; `evolves` says whether bits are needed at all.
  static absl::StatusOr<ProgramMemory> Begin(const tensor::ModelTopology& topology, bool evolves);
  // Adds what is active in `topology`.
  absl::Status Explore(const tensor::ModelTopology& topology);
};

}  // namespace espalier::server::methods
