#include "common/wire/index_set.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <limits>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/wire/bit_stream.h"

namespace espalier::wire {
namespace {

using Indices = std::vector<int64_t>;

// More low bits than this are never useful: universes are below 2^63 and sets of few elements are
// small.
constexpr int kMaxLowBits = 56;

constexpr uint64_t kMaxUniverse = std::numeric_limits<int64_t>::max();

absl::Status Invalid(std::string_view what) {
  return base::InvalidArgument("INDEX_SET_INVALID", fmt::format("index set refused: {}", what));
}

uint64_t BytesOf(uint64_t bits) { return bits / 8 + (bits % 8 != 0); }

void CheckAscending(std::span<const int64_t> indices, uint64_t universe) {
  ESPALIER_CHECK(universe <= kMaxUniverse, "universe of an index set is too large");
  bool ascending = true;
  for (size_t i = 1; i < indices.size(); ++i) {
    ascending &= indices[i - 1] < indices[i];
  }
  const bool within =
      indices.empty() || (indices.front() >= 0 && static_cast<uint64_t>(indices.back()) < universe);
  ESPALIER_CHECK(ascending && within, "indices must be ascending, distinct and below the universe");
}

// floor(log2(universe / count)), the number of bits an average gap has.
int AverageGapBits(uint64_t universe, uint64_t count) {
  const uint64_t gap = count == 0 ? 1 : std::max<uint64_t>(1, universe / count);
  return std::min(static_cast<int>(std::bit_width(gap)) - 1, kMaxLowBits);
}

// Calls visit(gap - 1) for each index; the first gap is counted from -1.
template <typename Visit>
void ForEachGap(std::span<const int64_t> indices, Visit visit) {
  int64_t expected = 0;
  for (const int64_t index : indices) {
    visit(static_cast<uint64_t>(index - expected));
    expected = index + 1;
  }
}

uint64_t RiceSizeInBits(std::span<const int64_t> indices, int rice_bits) {
  uint64_t quotients = 0;
  ForEachGap(indices, [&](uint64_t gap) { quotients += gap >> rice_bits; });
  return quotients + indices.size() * (1 + static_cast<uint64_t>(rice_bits));
}

// The parameter with the smallest result. The optimum for geometric gaps lies within one of the
// average.
struct RiceChoice {
  int rice_bits = 0;
  uint64_t bits = 0;
};
RiceChoice BestRice(std::span<const int64_t> indices, uint64_t universe) {
  const int average = AverageGapBits(universe, indices.size());
  RiceChoice best{0, std::numeric_limits<uint64_t>::max()};
  for (int k = std::max(0, average - 1); k <= std::min(average + 1, kMaxLowBits); ++k) {
    const uint64_t bits = RiceSizeInBits(indices, k);
    if (bits < best.bits) {
      best = {k, bits};
    }
  }
  return best;
}

uint64_t EliasFanoBytes(std::span<const int64_t> indices, int low_bits) {
  if (indices.empty()) {
    return 0;
  }
  const uint64_t high_bits = indices.size() + (static_cast<uint64_t>(indices.back()) >> low_bits);
  return BytesOf(indices.size() * static_cast<uint64_t>(low_bits)) + BytesOf(high_bits);
}

std::string EncodeBitmap(std::span<const int64_t> indices, uint64_t universe) {
  std::string bitmap(BytesOf(universe), '\0');
  for (const int64_t index : indices) {
    bitmap[index / 8] = static_cast<char>(bitmap[index / 8] | (1 << (index % 8)));
  }
  return bitmap;
}

void EncodeRice(std::span<const int64_t> indices, int rice_bits, v1::RiceGaps* out) {
  BitWriter writer(RiceSizeInBits(indices, rice_bits));
  const uint64_t mask = (uint64_t{1} << rice_bits) - 1;
  ForEachGap(indices, [&](uint64_t gap) {
    writer.PutUnary(gap >> rice_bits);
    writer.Put(gap & mask, rice_bits);
  });
  out->set_rice_bits(static_cast<uint32_t>(rice_bits));
  out->set_data(writer.Take());
}

void EncodeEliasFano(std::span<const int64_t> indices, int low_bits, v1::EliasFano* out) {
  BitWriter low(indices.size() * static_cast<uint64_t>(low_bits));
  BitWriter high(2 * indices.size());
  const uint64_t mask = (uint64_t{1} << low_bits) - 1;
  uint64_t previous = 0;
  for (const int64_t signed_index : indices) {
    const uint64_t index = static_cast<uint64_t>(signed_index);
    low.Put(index & mask, low_bits);
    high.PutUnary((index >> low_bits) - previous);
    previous = index >> low_bits;
  }
  out->set_low_bits(static_cast<uint32_t>(low_bits));
  out->set_low(low.Take());
  out->set_high(high.Take());
}

absl::StatusOr<Indices> DecodeBitmap(std::string_view bitmap, uint64_t universe, uint64_t count) {
  if (bitmap.size() != BytesOf(universe)) {
    return Invalid(fmt::format("a bitmap over {} positions needs {} bytes, found {}", universe,
                               BytesOf(universe), bitmap.size()));
  }
  uint64_t ones = 0;
  for (size_t byte = 0; byte < bitmap.size(); byte += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bitmap.data() + byte, std::min<size_t>(8, bitmap.size() - byte));
    ones += static_cast<uint64_t>(std::popcount(word));
  }
  if (ones != count) {
    return Invalid(fmt::format("declares {} indices, its bitmap has {}", count, ones));
  }
  if (universe % 8 != 0 && (static_cast<unsigned char>(bitmap.back()) >> (universe % 8)) != 0) {
    return Invalid("bits beyond the universe are set in its bitmap");
  }
  Indices indices;
  indices.reserve(count);
  for (size_t byte = 0; byte < bitmap.size(); byte += 8) {
    uint64_t word = 0;
    std::memcpy(&word, bitmap.data() + byte, std::min<size_t>(8, bitmap.size() - byte));
    for (; word != 0; word &= word - 1) {
      indices.push_back(static_cast<int64_t>(8 * byte) + std::countr_zero(word));
    }
  }
  return indices;
}

absl::StatusOr<Indices> DecodeRice(const v1::RiceGaps& rice, uint64_t universe, uint64_t count) {
  const uint64_t rice_bits = rice.rice_bits();
  if (rice_bits > kMaxLowBits) {
    return Invalid(fmt::format("rice_bits must be at most {}, found {}", kMaxLowBits, rice_bits));
  }
  if (count > 8 * rice.data().size() / (1 + rice_bits)) {
    return Invalid(fmt::format("{} indices cannot be in {} bytes with rice_bits {}", count,
                               rice.data().size(), rice_bits));
  }
  BitReader reader(rice.data());
  Indices indices;
  indices.reserve(count);
  uint64_t expected = 0;  // the smallest index that may follow
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t quotient = 0;
    uint64_t remainder = 0;
    if (!reader.GetUnary(&quotient) || !reader.Get(static_cast<int>(rice_bits), &remainder)) {
      return Invalid(fmt::format("data ends after {} of {} indices", i, count));
    }
    if (quotient > universe >> rice_bits) {
      return Invalid(fmt::format("index {} is beyond the universe of {}", i, universe));
    }
    const uint64_t gap = (quotient << rice_bits) | remainder;
    if (expected >= universe || gap >= universe - expected) {
      return Invalid(fmt::format("index {} is beyond the universe of {}", i, universe));
    }
    indices.push_back(static_cast<int64_t>(expected + gap));
    expected += gap + 1;
  }
  if (!reader.AtEnd()) {
    return Invalid(fmt::format("data goes on after {} indices", count));
  }
  return indices;
}

absl::StatusOr<Indices> DecodeEliasFano(const v1::EliasFano& coded, uint64_t universe,
                                        uint64_t count) {
  const uint64_t low_bits = coded.low_bits();
  if (low_bits > kMaxLowBits) {
    return Invalid(fmt::format("low_bits must be at most {}, found {}", kMaxLowBits, low_bits));
  }
  if (count > 8 * coded.high().size() || coded.low().size() != BytesOf(count * low_bits)) {
    return Invalid(fmt::format("{} indices cannot be in {} high and {} low bytes with low_bits {}",
                               count, coded.high().size(), coded.low().size(), low_bits));
  }
  BitReader low(coded.low());
  BitReader high(coded.high());
  Indices indices;
  indices.reserve(count);
  uint64_t upper = 0;
  int64_t previous = -1;
  for (uint64_t i = 0; i < count; ++i) {
    uint64_t step = 0;
    uint64_t lower = 0;
    if (!high.GetUnary(&step) || !low.Get(static_cast<int>(low_bits), &lower)) {
      return Invalid(fmt::format("data ends after {} of {} indices", i, count));
    }
    upper += step;
    if (upper > universe >> low_bits) {
      return Invalid(fmt::format("index {} is beyond the universe of {}", i, universe));
    }
    const uint64_t index = (upper << low_bits) | lower;
    if (index >= universe || static_cast<int64_t>(index) <= previous) {
      return Invalid(fmt::format("index {} is not ascending or beyond {}", i, universe));
    }
    previous = static_cast<int64_t>(index);
    indices.push_back(previous);
  }
  if (!high.AtEnd() || !low.AtEnd()) {
    return Invalid(fmt::format("data goes on after {} indices", count));
  }
  return indices;
}

}  // namespace

v1::IndexSet EncodeIndexSetAs(IndexEncoding encoding, std::span<const int64_t> indices,
                              uint64_t universe) {
  CheckAscending(indices, universe);
  v1::IndexSet set;
  set.set_universe(universe);
  set.set_count(indices.size());
  switch (encoding) {
    case IndexEncoding::kBitmap:
      set.set_bitmap(EncodeBitmap(indices, universe));
      break;
    case IndexEncoding::kEliasFano:
      EncodeEliasFano(indices, AverageGapBits(universe, indices.size()), set.mutable_elias_fano());
      break;
    case IndexEncoding::kRice:
      EncodeRice(indices, BestRice(indices, universe).rice_bits, set.mutable_rice());
      break;
  }
  return set;
}

v1::IndexSet EncodeIndexSet(std::span<const int64_t> indices, uint64_t universe) {
  CheckAscending(indices, universe);
  const uint64_t bitmap = BytesOf(universe);
  const uint64_t rice = BytesOf(BestRice(indices, universe).bits);
  const uint64_t elias_fano = EliasFanoBytes(indices, AverageGapBits(universe, indices.size()));
  // On equal sizes the one that decodes faster.
  if (bitmap <= rice && bitmap <= elias_fano) {
    return EncodeIndexSetAs(IndexEncoding::kBitmap, indices, universe);
  }
  return EncodeIndexSetAs(elias_fano <= rice ? IndexEncoding::kEliasFano : IndexEncoding::kRice,
                          indices, universe);
}

uint64_t PayloadBytes(const v1::IndexSet& set) {
  return set.bitmap().size() + set.rice().data().size() + set.elias_fano().low().size() +
         set.elias_fano().high().size();
}

absl::StatusOr<Indices> DecodeIndexSet(const v1::IndexSet& set, uint64_t universe,
                                       uint64_t max_count) {
  if (set.universe() != universe || universe > kMaxUniverse) {
    return Invalid(fmt::format("expected a universe of {}, found {}", universe, set.universe()));
  }
  if (set.count() > std::min(universe, max_count)) {
    return Invalid(fmt::format("expected at most {} indices, found {}",
                               std::min(universe, max_count), set.count()));
  }
  switch (set.encoding_case()) {
    case v1::IndexSet::kBitmap:
      return DecodeBitmap(set.bitmap(), universe, set.count());
    case v1::IndexSet::kEliasFano:
      return DecodeEliasFano(set.elias_fano(), universe, set.count());
    case v1::IndexSet::kRice:
      return DecodeRice(set.rice(), universe, set.count());
    case v1::IndexSet::ENCODING_NOT_SET:
      break;
  }
  return Invalid("no encoding is set");
}

}  // namespace espalier::wire
