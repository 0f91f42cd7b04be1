// Evolution: a change of structure, and carrying it out on a model.
//
// A dense tensor that may be sparse counts as one that stores all its positions: the first change
// of it makes it sparse, and it stays so.
// Memory:      4 bytes per weight of a dense tensor that changes, for the call.
// Ownership:   plain values.
// Threading:   pure functions. Determinism: exact.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/byte_codec.h"
#include "common/tensor/model.h"
#include "server/methods/program.h"

namespace espalier::server::methods {

// One entry per tensor that changes.
using Evolution = std::vector<StructureChange::Tensor>;

// Weights that go, over all tensors.
int64_t DroppedWeights(const Evolution& evolution);

// As many weights as `change` drops, at random places that follow from `key`.
void GrowAtRandom(const tensor::ModelTopology& topology, uint64_t key,
                  StructureChange::Tensor& change);

// Values of the weights that `change` grows, in the order of `change.diff.grown`.
using GrownValues = std::function<std::vector<float>(const StructureChange::Tensor& change)>;

// The model after `evolution`. Kept weights keep their value; every grown weight gets the one from
// `grown_values`, also where it stood before it was dropped in the same step.
// Errors: InvalidArgument when the evolution does not fit the model.
absl::StatusOr<tensor::ModelState> Evolve(const tensor::ModelState& model,
                                          const Evolution& evolution,
                                          const GrownValues& grown_values);

// Writes `values` to the entries of `stored`, the numbers of one tensor, at the ascending flat
// `positions`, all of them active in its structure.
void WriteAt(const tensor::Topology& topology, std::span<const int64_t> positions,
             std::span<const float> values, std::span<float> stored);
// What leads from `base` to `updated`, two structures of one layout.
Evolution DifferenceOf(const tensor::ModelTopology& base, const tensor::ModelTopology& updated);

// For a program's memory.
void PutEvolution(const Evolution& evolution, io::ByteWriter& writer);
Evolution GetEvolution(io::ByteReader& reader);

}  // namespace espalier::server::methods
