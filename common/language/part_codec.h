// The parts of a transformer as bytes, as they travel from coordinator to workers.
//
// Form:        "ESPPART1", then little-endian arrays, each as count (uint64) and elements: of a
//              block attention_norm, its bias, mlp_norm, its bias; then for each linear layer one
//              byte (1 = sparse), when sparse its bitmap (bit k of byte k / 8 is position k), its
//              stored values and its bias. Of the rest: embedding, positions, final_norm, its bias,
//              output. All values float32.
// Memory:      decoding allocates no more than the bytes it is given account for.
// Threading:   pure functions. Determinism: equal weights give equal bytes.
// Errors:      InvalidArgument PART_INVALID for bytes that do not hold what `config` says, or
//              values that are not finite.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "common/language/checkpoint_reader.h"

namespace espalier::language {

std::string EncodeBlock(const BlockWeights& block);
absl::StatusOr<BlockWeights> DecodeBlock(std::string_view bytes, const TransformerConfig& config);

std::string EncodeOuter(const OuterWeights& outer);
absl::StatusOr<OuterWeights> DecodeOuter(std::string_view bytes, const TransformerConfig& config);

}  // namespace espalier::language
