// A model's values in fewer than four bytes each, as job.wire asks for; docs/formats/wire.md has
// the bytes.
//
// Types:       SECTION_TYPE_BF16: the upper half of a float32. SECTION_TYPE_INT8: for each 256
//              values of a tensor a float32, the scale, and then a signed byte k for each of them:
//              value = k · scale. The scale is the largest magnitude / 127, rounded up to 17
//              significant bits, so that every product is exact, and values that were rounded once
//              are the same when they are rounded again. Blocks end with their tensor.
//              Running statistics (TensorSpec::buffer) stay float32: little of a model, and
//              variances must not become negative.
// Order:       that of ModelState::values.
// Threading:   pure functions.
// Determinism: exact, and the same on every machine.
// Errors:      InvalidArgument SHAPE_MISMATCH (wrong length), NON_FINITE (a scale that is none).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/tensor/model.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::wire {

// SECTION_TYPE_F32 where the job says nothing.
v1::SectionType SectionTypeOf(v1::Wire::Values values);

// Whether a type is one of those above.
bool IsCompact(v1::SectionType type);

// Bytes of all values of a model of this structure.
uint64_t CompactBytes(const tensor::ModelTopology& topology, v1::SectionType type);

// Makes each value the nearest one that the type has. What they were before less what they are now
// is what rounding leaves out.
void RoundToNearest(const tensor::ModelTopology& topology, v1::SectionType type,
                    std::span<float> values);

// The nearest values that the type has.
std::string EncodeCompact(const tensor::ModelTopology& topology, v1::SectionType type,
                          std::span<const float> values);
absl::StatusOr<std::vector<float>> DecodeCompact(const tensor::ModelTopology& topology,
                                                 v1::SectionType type, std::string_view bytes);

// values − base, rounded up or down at random so that the mean stays: up with the probability of
// the distance from below. Numbers of the stream of `key` decide, one for each value in their
// order. Running statistics are written as they are, not as differences. `values` and `base` are
// finite.
std::string EncodeDifferences(const tensor::ModelTopology& topology, v1::SectionType type,
                              std::span<const float> values, std::span<const float> base,
                              uint64_t key);
// The values again: base + difference.
absl::StatusOr<std::vector<float>> DecodeDifferences(const tensor::ModelTopology& topology,
                                                     v1::SectionType type, std::string_view bytes,
                                                     std::span<const float> base);

}  // namespace espalier::wire
