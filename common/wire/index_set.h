// Sets of ascending integers as bytes: which weights exist, were dropped, were grown.
//
// Encodings: for m of n integers a bitmap takes n bits; Elias-Fano and Golomb-Rice take at most
//            m·(2 + log2(n/m)), for random sets within 5 % of log2 C(n, m) at densities 0.001 to
//            0.5.
// Bits:      least significant first within a byte; unused bits of the last byte are zero.
// Threading: pure functions.
// Sources:   Elias, "Efficient storage and retrieval by content and address of static files", JACM
//            1974; Rice and Plaunt, "Adaptive variable-length coding", IEEE Trans. Comm. 1971.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/topology.pb.h"

namespace espalier::wire {

enum class IndexEncoding { kBitmap, kEliasFano, kRice };

// `indices` are ascending, distinct and in [0, universe): anything else is a programmer error.
// Picks the smallest encoding; deterministic.
v1::IndexSet EncodeIndexSet(std::span<const int64_t> indices, uint64_t universe);
// With a given encoding.
v1::IndexSet EncodeIndexSetAs(IndexEncoding encoding, std::span<const int64_t> indices,
                              uint64_t universe);

// Bytes of the encoded indices, without the message around them.
uint64_t PayloadBytes(const v1::IndexSet& set);

// The ascending indices. `universe` is what the set's must be; `max_count` bounds memory, which is
// besides never more than 64 bytes for each byte received.
// Errors: InvalidArgument (INDEX_SET_INVALID) with what was expected and found.
absl::StatusOr<std::vector<int64_t>> DecodeIndexSet(const v1::IndexSet& set, uint64_t universe,
                                                    uint64_t max_count);

}  // namespace espalier::wire
