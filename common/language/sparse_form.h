// How a sparse weight is stored in a file: one bit for each position and the values that are set.
// Internal to this folder; the format is in docs/formats/language-model.md.
//
// Shapes:    a bitmap has ⌈rows · cols / 8⌉ bytes, row-major, the lowest bit of a byte first, bits
//            past the end zero. Values follow in the order of the bits.
// Threading: pure functions.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/tensor/topology.h"

namespace espalier::language {

inline constexpr char kBitmapSuffix[] = ".bitmap";
inline constexpr char kValuesSuffix[] = ".values";
// Checkpoints of training jobs (docs/formats/checkpoint.md) are CSR matrices instead.
inline constexpr char kRowOffsetsSuffix[] = ".row_offsets";
inline constexpr char kColumnsSuffix[] = ".columns";

// Errors: InvalidArgument (TENSOR_SPARSE_INVALID) unless the bitmap has the right size, `values`
// bits and none past the end.
absl::StatusOr<tensor::Topology> TopologyFromBitmap(std::string_view bitmap, int64_t rows,
                                                    int64_t cols, int64_t values);
std::string BitmapOf(const tensor::Topology& topology);

}  // namespace espalier::language
