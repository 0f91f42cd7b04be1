// Sets of indices: whatever decodes is ascending and within its universe, and every encoding of it
// decodes to the same.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "common/wire/index_set.h"
#include "tests/fuzz/fuzz_input.h"
#include "tests/fuzz/messages.h"

namespace {

using espalier::fuzz::Require;
using espalier::wire::DecodeIndexSet;
using espalier::wire::IndexEncoding;

constexpr uint64_t kMostIndices = 1 << 20;
// A bitmap of a larger universe would take too long.
constexpr uint64_t kLargestBitmap = 1 << 24;

void CheckEncoding(const espalier::v1::IndexSet& set, const std::vector<int64_t>& indices) {
  Require(set.count() == indices.size(), "a set says how many indices it has");
  const auto again = DecodeIndexSet(set, set.universe(), kMostIndices);
  Require(again.ok() && *again == indices, "what was encoded decodes to the same indices");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  espalier::v1::IndexSet set;
  if (!espalier::fuzz::Parse({reinterpret_cast<const char*>(data), size}, set)) return 0;
  const auto indices = DecodeIndexSet(set, set.universe(), kMostIndices);
  // Another universe than the one that was asked for is never taken.
  Require(!DecodeIndexSet(set, set.universe() + 1, kMostIndices).ok(), "universes are compared");
  if (!indices.ok()) return 0;
  Require(indices->size() == set.count(), "as many indices as the set says");
  Require(std::ranges::adjacent_find(*indices, std::ranges::greater_equal()) == indices->end(),
          "indices ascend");
  if (!indices->empty()) {
    Require(indices->front() >= 0, "indices are not negative");
    Require(static_cast<uint64_t>(indices->back()) < set.universe(),
            "indices are below the universe");
    Require(!DecodeIndexSet(set, set.universe(), indices->size() - 1).ok(),
            "the bound on the count holds");
  }
  const auto smallest = espalier::wire::EncodeIndexSet(*indices, set.universe());
  CheckEncoding(smallest, *indices);
  for (const IndexEncoding encoding :
       {IndexEncoding::kBitmap, IndexEncoding::kEliasFano, IndexEncoding::kRice}) {
    if (encoding == IndexEncoding::kBitmap && set.universe() > kLargestBitmap) continue;
    const auto encoded = espalier::wire::EncodeIndexSetAs(encoding, *indices, set.universe());
    CheckEncoding(encoded, *indices);
    Require(espalier::wire::PayloadBytes(smallest) <= espalier::wire::PayloadBytes(encoded),
            "the smallest encoding is chosen");
  }
  return 0;
}
