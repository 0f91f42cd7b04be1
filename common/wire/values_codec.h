// Model values and score lists as bytes.
//
// Values:    little-endian float32 in layout order, nothing else: 4 bytes per active weight.
// Scores:    uint32 number of tensors, then for each tensor of the layout: uint32 size of an
//            encoded IndexSet over the tensor's flat positions, the IndexSet, one float32 for each
//            index. A size of 0 is an empty list. All little-endian.
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/tensor/model.h"

namespace espalier::wire {

// The bytes of `values`, in place.
std::string_view ValuesAsBytes(std::span<const float> values);

// The values in `bytes`. Errors: InvalidArgument (SHAPE_MISMATCH) unless bytes.size() == 4·count;
// InvalidArgument (NON_FINITE) when one is infinite or not a number.
absl::StatusOr<std::vector<float>> DecodeValues(std::string_view bytes, uint64_t count);

// Whether no value is infinite or NaN.
bool AllFinite(std::span<const float> values);

// Scores of inactive positions of one tensor: ascending flat positions and a value for each.
struct TensorScores {
  std::vector<int64_t> positions;
  std::vector<float> values;
};

// `scores` has one entry per tensor of `layout`, with positions in [0, size of the tensor).
std::string EncodeScores(std::span<const TensorScores> scores, const tensor::ModelLayout& layout);

// `max_counts` has one entry per tensor: how many scores were asked for.
// Errors: InvalidArgument (SCORES_INVALID, INDEX_SET_INVALID, NON_FINITE).
absl::StatusOr<std::vector<TensorScores>> DecodeScores(std::string_view bytes,
                                                       const tensor::ModelLayout& layout,
                                                       std::span<const int64_t> max_counts);

}  // namespace espalier::wire
