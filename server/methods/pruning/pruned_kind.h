// PrunedKind: what a pruning method asks of the kind of model that it prunes: a network that was
// trained here, or a language model in parts. Found once by PrunedKindOf().
//
// Ownership: kinds are constants of the program; references to them stay valid.
// Threading: immutable. Errors: those of the library and of wire::LayoutOf().
#pragma once

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "server/methods/program.h"
#include "server/methods/pruning/settings.h"
#include "server/methods/pruning/sweep/sweep_program.h"
#include "server/pretrained/model_library.h"

namespace espalier::server::methods {

class PrunedKind {
 public:
  using Library = std::shared_ptr<const pretrained::ModelLibrary>;

  PrunedKind() = default;
  PrunedKind(const PrunedKind&) = delete;
  PrunedKind& operator=(const PrunedKind&) = delete;
  virtual ~PrunedKind() = default;

  // Whether the model exists and can be pruned at all. Widths of networks are checked when the job
  // runs.
  virtual void Validate(const v1::JobSpec& spec, const Library& library,
                        std::vector<config::Violation>& violations) const = 0;
  // Whether it can be pruned so.
  virtual void ValidateSettings(const v1::JobSpec& spec, const PruningSettings& settings,
                                const Library& library,
                                std::vector<config::Violation>& violations) const = 0;
  // How many parts are pruned one after the other.
  virtual absl::StatusOr<int32_t> Rounds(const v1::JobSpec& spec, const Library& library) const = 0;
  // What is kept of the part that is pruned.
  virtual absl::StatusOr<CoordinatorDemand> Demand(const v1::JobSpec& spec,
                                                   const Library& library) const = 0;
  virtual std::unique_ptr<Program> MakeProgram(const v1::JobSpec& spec,
                                               const PruningSettings& settings,
                                               const Library& library) const = 0;
  virtual std::unique_ptr<Program> MakeSweep(const v1::JobSpec& spec, SweepSettings settings,
                                             const Library& library) const = 0;
};

const PrunedKind& PrunedKindOf(const v1::ModelSpec& model);

// Statistics of one layer's inputs: their sums, a copy while an update is added, and the update in
// both of its forms; and the matrices that come of them.
double StatisticsBytes(int64_t columns);

// The kinds themselves.
const PrunedKind& PrunedNetwork();
const PrunedKind& PrunedLanguageModel();

}  // namespace espalier::server::methods
