#include "common/wire/index_set.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <numeric>
#include <set>
#include <vector>

#include "common/base/rng.h"
#include "common/base/status.h"
#include "common/sparsity/random_topology.h"

namespace espalier::wire {
namespace {

using Indices = std::vector<int64_t>;

constexpr IndexEncoding kEncodings[] = {IndexEncoding::kBitmap, IndexEncoding::kEliasFano,
                                        IndexEncoding::kRice};

// log2 of the number of subsets of m out of n.
double BoundBits(double n, double m) {
  return (std::lgamma(n + 1) - std::lgamma(m + 1) - std::lgamma(n - m + 1)) / std::log(2.0);
}

void ExpectRoundTrip(const Indices& indices, uint64_t universe) {
  for (const IndexEncoding encoding : kEncodings) {
    const v1::IndexSet set = EncodeIndexSetAs(encoding, indices, universe);
    const auto decoded = DecodeIndexSet(set, universe, universe);
    ASSERT_TRUE(decoded.ok()) << base::MessageOf(decoded.status()) << " of " << universe;
    EXPECT_EQ(*decoded, indices);
  }
  EXPECT_EQ(DecodeIndexSet(EncodeIndexSet(indices, universe), universe, universe).value(), indices);
}

std::string ReasonOfDecoding(const v1::IndexSet& set, uint64_t universe, uint64_t max_count) {
  return base::ReasonOf(DecodeIndexSet(set, universe, max_count).status());
}

TEST(IndexSetTest, RandomSetsSurviveEveryEncoding) {
  for (const int64_t universe : {1, 2, 7, 8, 9, 63, 64, 65, 1000, 5003}) {
    for (const double density : {0.0, 0.001, 0.01, 0.1, 0.5, 0.9, 1.0}) {
      const int64_t count = std::llround(density * static_cast<double>(universe));
      ExpectRoundTrip(sparsity::DrawPositions(11, count, universe),
                      static_cast<uint64_t>(universe));
    }
  }
}

TEST(IndexSetTest, ExtremeSetsSurviveEveryEncoding) {
  ExpectRoundTrip({}, 0);
  ExpectRoundTrip({}, 1);
  ExpectRoundTrip({0}, 1);
  ExpectRoundTrip({999'999}, 1'000'000);
  ExpectRoundTrip({0, 999'999}, 1'000'000);
  Indices block(500);
  std::iota(block.begin(), block.end(), 400'000);
  ExpectRoundTrip(block, 1'000'000);
}

TEST(IndexSetTest, HugeUniversesNeedNoBitmap) {
  const uint64_t universe = (uint64_t{1} << 63) - 1;
  const Indices indices = {0, 5, int64_t{1} << 40, static_cast<int64_t>(universe) - 1};
  const v1::IndexSet set = EncodeIndexSet(indices, universe);
  EXPECT_LT(PayloadBytes(set), 64u);
  EXPECT_EQ(DecodeIndexSet(set, universe, 4).value(), indices);
}

TEST(IndexSetTest, SizesAreWithin15PercentOfTheBound) {
  constexpr int64_t kUniverse = 1'000'000;
  std::printf("density   bytes     bound     ratio   encoding\n");
  for (const double density : {0.5, 0.4, 0.3, 0.25, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.001}) {
    const int64_t count = std::llround(density * kUniverse);
    const v1::IndexSet set =
        EncodeIndexSet(sparsity::DrawPositions(5, count, kUniverse), kUniverse);
    const double bound = BoundBits(kUniverse, static_cast<double>(count)) / 8;
    const double ratio = static_cast<double>(PayloadBytes(set)) / bound;
    std::printf("%-9.3f %-9llu %-9.0f %.3f   %s\n", density,
                static_cast<unsigned long long>(PayloadBytes(set)), bound, ratio,
                set.has_rice()         ? "rice"
                : set.has_elias_fano() ? "elias-fano"
                                       : "bitmap");
    EXPECT_LE(ratio, 1.15) << density;
  }
  EXPECT_TRUE(
      EncodeIndexSet(sparsity::DrawPositions(5, kUniverse / 2, kUniverse), kUniverse).has_bitmap());
}

TEST(IndexSetTest, ChosenEncodingIsTheSmallest) {
  for (const int64_t count : {0, 1, 10, 300, 2000, 5000, 9999, 10'000}) {
    const Indices indices = sparsity::DrawPositions(5, count, 10'000);
    const uint64_t chosen = PayloadBytes(EncodeIndexSet(indices, 10'000));
    for (const IndexEncoding encoding : kEncodings) {
      EXPECT_LE(chosen, PayloadBytes(EncodeIndexSetAs(encoding, indices, 10'000))) << count;
    }
  }
}

TEST(IndexSetTest, KnownBytes) {
  // Bitmap: bits 0, 3 and 9.
  v1::IndexSet set = EncodeIndexSetAs(IndexEncoding::kBitmap, Indices{0, 3, 9}, 10);
  EXPECT_EQ(set.bitmap(), std::string("\x09\x02", 2));
  // Gaps 0, 2, 5 with one low bit: 1 0 | 01 0 | 001 1, least significant bit first.
  set = EncodeIndexSetAs(IndexEncoding::kRice, Indices{0, 3, 9}, 10);
  ASSERT_EQ(set.rice().rice_bits(), 1u);
  EXPECT_EQ(set.rice().data(), std::string("\x89\x01", 2));
  // Low bits 0, 1, 1; high parts 0, 1, 4: 1 | 01 | 0001.
  set = EncodeIndexSetAs(IndexEncoding::kEliasFano, Indices{0, 3, 9}, 10);
  ASSERT_EQ(set.elias_fano().low_bits(), 1u);
  EXPECT_EQ(set.elias_fano().low(), "\x06");
  EXPECT_EQ(set.elias_fano().high(), "\x45");
}

TEST(IndexSetTest, DeclaredNumbersAreNotBelieved) {
  for (const IndexEncoding encoding : kEncodings) {
    const v1::IndexSet good = EncodeIndexSetAs(encoding, Indices{1, 5, 700}, 1000);
    EXPECT_EQ(ReasonOfDecoding(good, 1001, 1000), "INDEX_SET_INVALID");
    EXPECT_EQ(ReasonOfDecoding(good, 1000, 2), "INDEX_SET_INVALID");
    for (const uint64_t count : {uint64_t{2}, uint64_t{4}, uint64_t{1000}, ~uint64_t{0}}) {
      v1::IndexSet set = good;
      set.set_count(count);
      EXPECT_EQ(ReasonOfDecoding(set, 1000, 1000), "INDEX_SET_INVALID") << count;
    }
  }
  v1::IndexSet empty;
  empty.set_universe(10);
  EXPECT_EQ(ReasonOfDecoding(empty, 10, 10), "INDEX_SET_INVALID");
}

TEST(IndexSetTest, CountBeyondTheBytesPresentIsRefusedBeforeMemoryIsTaken) {
  v1::IndexSet set;
  set.set_universe(uint64_t{1} << 62);
  set.set_count(uint64_t{1} << 61);
  set.mutable_rice()->set_data("\x01");
  EXPECT_EQ(ReasonOfDecoding(set, set.universe(), set.universe()), "INDEX_SET_INVALID");
  set.mutable_elias_fano()->set_high("\x01");
  EXPECT_EQ(ReasonOfDecoding(set, set.universe(), set.universe()), "INDEX_SET_INVALID");
  set.set_bitmap("\x01");
  EXPECT_EQ(ReasonOfDecoding(set, set.universe(), set.universe()), "INDEX_SET_INVALID");
}

TEST(IndexSetTest, ParametersOutOfRangeAreRefused) {
  v1::IndexSet set = EncodeIndexSetAs(IndexEncoding::kRice, Indices{1, 5}, 10);
  set.mutable_rice()->set_rice_bits(64);
  EXPECT_EQ(ReasonOfDecoding(set, 10, 10), "INDEX_SET_INVALID");
  set = EncodeIndexSetAs(IndexEncoding::kEliasFano, Indices{1, 5}, 10);
  set.mutable_elias_fano()->set_low_bits(~0u);
  EXPECT_EQ(ReasonOfDecoding(set, 10, 10), "INDEX_SET_INVALID");
}

// What a decoder accepts must be a valid set, whatever was done to the bytes.
void ExpectRefusedOrValid(const v1::IndexSet& set, uint64_t universe) {
  const auto decoded = DecodeIndexSet(set, universe, universe);
  if (!decoded.ok()) {
    EXPECT_EQ(base::ReasonOf(decoded.status()), "INDEX_SET_INVALID");
    return;
  }
  EXPECT_EQ(decoded->size(), set.count());
  EXPECT_TRUE(std::adjacent_find(decoded->begin(), decoded->end(), std::greater_equal<>()) ==
              decoded->end());
  if (!decoded->empty()) {
    EXPECT_GE(decoded->front(), 0);
    EXPECT_LT(static_cast<uint64_t>(decoded->back()), universe);
  }
}

TEST(IndexSetTest, EveryBitFlipAndTruncationIsRefusedOrValid) {
  const Indices indices = sparsity::DrawPositions(9, 40, 500);
  for (const IndexEncoding encoding : kEncodings) {
    const std::string bytes = EncodeIndexSetAs(encoding, indices, 500).SerializeAsString();
    for (size_t bit = 0; bit < 8 * bytes.size(); ++bit) {
      std::string changed = bytes;
      changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
      v1::IndexSet set;
      if (set.ParseFromString(changed)) {
        ExpectRefusedOrValid(set, 500);
      }
    }
    for (size_t size = 0; size < bytes.size(); ++size) {
      v1::IndexSet set;
      if (set.ParseFromString(bytes.substr(0, size))) {
        ExpectRefusedOrValid(set, 500);
      }
    }
  }
}

TEST(IndexSetTest, EveryTruncationAndExtensionOfThePayloadIsRefused) {
  const Indices indices = sparsity::DrawPositions(9, 40, 500);
  for (const IndexEncoding encoding : kEncodings) {
    const v1::IndexSet good = EncodeIndexSetAs(encoding, indices, 500);
    const auto refused = [](const v1::IndexSet& set) {
      return ReasonOfDecoding(set, 500, 500) == "INDEX_SET_INVALID";
    };
    const auto payloads = [](v1::IndexSet& set) -> std::vector<std::string*> {
      if (set.has_rice()) {
        return {set.mutable_rice()->mutable_data()};
      }
      if (set.has_elias_fano()) {
        return {set.mutable_elias_fano()->mutable_low(), set.mutable_elias_fano()->mutable_high()};
      }
      return {set.mutable_bitmap()};
    };
    v1::IndexSet probe = good;
    for (size_t which = 0; which < payloads(probe).size(); ++which) {
      const std::string original = *payloads(probe)[which];
      for (size_t size = 0; size < original.size(); ++size) {
        v1::IndexSet set = good;
        payloads(set)[which]->resize(size);
        EXPECT_TRUE(refused(set)) << size;
      }
      v1::IndexSet set = good;
      payloads(set)[which]->push_back('\0');
      EXPECT_TRUE(refused(set));
    }
  }
}

TEST(IndexSetTest, RandomBytesAreRefusedOrValid) {
  base::Rng rng(21);
  for (int trial = 0; trial < 20'000; ++trial) {
    std::string bytes(rng.Below(24), '\0');
    for (char& byte : bytes) {
      byte = static_cast<char>(rng.Below(256));
    }
    v1::IndexSet set;
    set.set_universe(1 + rng.Below(200));
    set.set_count(rng.Below(12));
    if (trial % 3 == 0) {
      set.set_bitmap(bytes);
    } else if (trial % 3 == 1) {
      set.mutable_rice()->set_rice_bits(static_cast<uint32_t>(rng.Below(60)));
      set.mutable_rice()->set_data(bytes);
    } else {
      set.mutable_elias_fano()->set_low_bits(static_cast<uint32_t>(rng.Below(8)));
      set.mutable_elias_fano()->set_low(bytes.substr(0, bytes.size() / 2));
      set.mutable_elias_fano()->set_high(bytes.substr(bytes.size() / 2));
    }
    ExpectRefusedOrValid(set, set.universe());
  }
}

// Times are printed, not asserted: they depend on the machine and the build.
TEST(IndexSetTest, ReportsTheTimeFor1250000Indices) {
  using Clock = std::chrono::steady_clock;
  const auto ms = [](Clock::duration time) {
    return std::chrono::duration<double, std::milli>(time).count();
  };
  for (const int64_t universe : {int64_t{2'500'000}, int64_t{25'000'000}, int64_t{125'000'000}}) {
    const Indices indices = sparsity::DrawPositions(5, 1'250'000, universe);
    for (const IndexEncoding encoding : kEncodings) {
      const auto start = Clock::now();
      const v1::IndexSet set = EncodeIndexSetAs(encoding, indices, static_cast<uint64_t>(universe));
      const auto middle = Clock::now();
      const auto decoded = DecodeIndexSet(set, static_cast<uint64_t>(universe), 1 << 30);
      const auto end = Clock::now();
      ASSERT_EQ(decoded.value(), indices);
      std::printf("1.25 M of %lld, encoding %d: encode %.1f ms, decode %.1f ms, %llu bytes\n",
                  static_cast<long long>(universe), static_cast<int>(encoding), ms(middle - start),
                  ms(end - middle), static_cast<unsigned long long>(PayloadBytes(set)));
    }
  }
}

}  // namespace
}  // namespace espalier::wire
