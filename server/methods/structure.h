// Initial structures: how many weights each tensor gets, and which.
//
// Budget:      density counts the weights of sparsifiable tensors only (active / all of them);
//              layers marked dense, and biases, are exempt and not counted.
// Determinism: positions of tensor t come from StreamKey(seed, "topology", {t}).
// Threading:   pure functions.
// Errors:      InvalidArgument: MODEL_TOO_LARGE when a tensor would store 2^31 values or more,
//              LAYER_EMPTY when one would store none, and those of sparsity::Allocate.
// Source:      common/sparsity/distribution.h.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/config/parameters.h"
#include "common/tensor/model.h"
#include "espalier/v1/job.pb.h"
#include "server/methods/program.h"

namespace espalier::server::methods {

// Whether the job names this method parameter, rather than taking its default.
bool IsGiven(const v1::JobSpec& spec, const std::string& name);

// The parameters `distribution`, `density` and `epsilon`, for methods that start at random.
config::ParameterSchema StructureParameters(const std::string& default_distribution);

struct Budget {
  std::string distribution;  // uniform, er, erk or set_epsilon
  double density = 1;        // all but set_epsilon
  double epsilon = 0;        // set_epsilon
};

// The budget a job asks for. Without a distribution, a given density means er where the method's
// default would not use it, and a given epsilon means set_epsilon.
Budget BudgetOf(const v1::JobSpec& spec, const config::Parameters& parameters);

// Appends violations for a density or epsilon that would be ignored, for a model that has nothing
// to make sparse and for budgets that do not work out. A model that has no layout is reported
// elsewhere.
void ValidateBudget(const v1::JobSpec& spec, const config::Parameters& parameters,
                    std::vector<config::Violation>& violations);

// Appends a violation for a model with a tensor too large to be dense, and for one whose training
// results, with `extra` more float32 beside the dense values and the optimizer state that crosses
// rounds, do not fit one update.
void ValidateDenseStart(const v1::JobSpec& spec, const tensor::ModelLayout& layout, int64_t extra,
                        std::vector<config::Violation>& violations);

// Appends a violation when `floats` float32 do not fit one update; `what` they are.
void ValidateUpdateSize(const std::string& what, int64_t floats,
                        std::vector<config::Violation>& violations);

// Stored values per tensor; all of them in tensors that are not sparsifiable.
absl::StatusOr<std::vector<int64_t>> StoredCounts(const tensor::ModelLayout& layout,
                                                  const Budget& budget);

// The same for a job whose structure keeps the number of weights it starts with.
absl::StatusOr<std::vector<int64_t>> StoredCountsOf(const v1::JobSpec& spec,
                                                    const config::Parameters& parameters);

// MethodDeclaration::demand of a method whose dense tensors get a structure while it trains: that
// of all positions is made first.
absl::StatusOr<CoordinatorDemand> DenseStructureDemand(const v1::JobSpec& spec,
                                                       const config::Parameters& parameters);

// Random structures of these counts; a tensor that stores everything is dense (null).
absl::StatusOr<std::vector<std::shared_ptr<const tensor::Topology>>> RandomStructure(
    const tensor::ModelLayout& layout, const Budget& budget, uint64_t seed);

}  // namespace espalier::server::methods
