#include "common/sparsity/pruning/activation_statistics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "common/base/rng.h"
#include "common/base/status.h"

namespace espalier::sparsity {
namespace {

constexpr int64_t kColumns = 7;
constexpr int64_t kSequences = 9;

struct Sequence {
  std::vector<float> values;  // [kColumns][tokens]
  int64_t tokens;
};

Sequence MakeSequence(uint64_t key) {
  base::Rng rng(base::StreamKey(3, "sequence", {key}));
  Sequence sequence;
  sequence.tokens = 5 + static_cast<int64_t>(key);
  for (int64_t i = 0; i < kColumns * sequence.tokens; ++i) {
    sequence.values.push_back(static_cast<float>(rng.Normal() * 3 + 1e-3));
  }
  return sequence;
}

// Statistics of the sequences of one of `workers` workers.
ActivationStatistics Measure(int worker, int workers) {
  ActivationStatistics statistics(kColumns, true);
  for (int s = worker; s < kSequences; s += workers) {
    const Sequence sequence = MakeSequence(s);
    EXPECT_TRUE(
        statistics.AddSequence(sequence.values.data(), sequence.tokens, sequence.tokens).ok());
  }
  return statistics;
}

std::string Bytes(const ActivationStatistics& statistics) {
  std::string bytes;
  statistics.AppendTo(bytes);
  return bytes;
}

TEST(ActivationStatisticsTest, AreTheSameBitsHoweverSequencesAreDivided) {
  const std::string whole = Bytes(Measure(0, 1));
  for (const int workers : {2, 4}) {
    ActivationStatistics merged(kColumns, true);
    for (int worker = workers; worker-- > 0;) {
      ASSERT_TRUE(merged.Merge(Measure(worker, workers)).ok());
    }
    EXPECT_EQ(Bytes(merged), whole) << workers << " workers";
  }
}

TEST(ActivationStatisticsTest, AgreeWithTheDefinition) {
  const ActivationStatistics statistics = Measure(0, 1);
  const ColumnMoments moments = statistics.Moments();
  const std::vector<double> gram = statistics.Gram();
  for (int64_t j = 0; j < kColumns; ++j) {
    double sum = 0;
    double squares = 0;
    double product = 0;
    double deviations = 0;
    int64_t tokens = 0;
    for (int s = 0; s < kSequences; ++s) {
      const Sequence sequence = MakeSequence(s);
      double own = 0;
      for (int64_t t = 0; t < sequence.tokens; ++t) {
        const double x = sequence.values[j * sequence.tokens + t];
        own += x;
        squares += x * x;
        product += x * sequence.values[t];  // with column 0
      }
      const double mean = own / static_cast<double>(sequence.tokens);
      for (int64_t t = 0; t < sequence.tokens; ++t) {
        deviations += std::pow(sequence.values[j * sequence.tokens + t] - mean, 2);
      }
      sum += own;
      tokens += sequence.tokens;
    }
    const auto n = static_cast<double>(tokens);
    EXPECT_EQ(statistics.tokens(), tokens);
    EXPECT_NEAR(moments.sum[j], sum / kSequences, 1e-12);
    EXPECT_NEAR(moments.sum_squares[j], squares / kSequences, 1e-11);
    EXPECT_NEAR(moments.variance[j], deviations / n, 1e-11);
    EXPECT_NEAR(moments.mean[j], sum / n, 1e-12);
    EXPECT_NEAR(moments.pooled_variance[j], squares / n - sum * sum / n / n, 1e-11);
    EXPECT_NEAR(gram[j], product / kSequences, 1e-11);
    EXPECT_EQ(gram[j], gram[j * kColumns]);
  }
}

TEST(ActivationStatisticsTest, PooledVarianceHasTheBetweenSequencesTerm) {
  const std::vector<float> a = {1, 2, 4};
  const std::vector<float> b = {3, 7};
  ActivationStatistics first(1, false);
  ActivationStatistics second(1, false);
  ASSERT_TRUE(first.AddSequence(a.data(), 3, 3).ok());
  ASSERT_TRUE(second.AddSequence(b.data(), 2, 2).ok());
  ASSERT_TRUE(first.Merge(second).ok());
  const ColumnMoments moments = first.Moments();
  EXPECT_NEAR(moments.mean[0], 3.4, 1e-12);
  EXPECT_NEAR(moments.pooled_variance[0], 4.24, 1e-12);
  EXPECT_NEAR(moments.variance[0], 2.533333, 1e-6);
}

TEST(ActivationStatisticsTest, SurviveEncoding) {
  const ActivationStatistics statistics = Measure(1, 2);
  const std::string bytes = Bytes(statistics);
  EXPECT_EQ(bytes.size(), ActivationStatistics::EncodedBytes(kColumns, true));
  const auto decoded = ActivationStatistics::Decode(bytes, kColumns, true);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(Bytes(*decoded), bytes);
}

// Where undefined behaviour is checked, copying to the Gram matrix that is not there is an error.
TEST(ActivationStatisticsTest, SurviveEncodingWithoutGram) {
  ActivationStatistics statistics(2, false);
  const std::vector<float> inputs = {1, 2, 3, 4};
  ASSERT_TRUE(statistics.AddSequence(inputs.data(), 2, 2).ok());
  const std::string bytes = Bytes(statistics);
  const auto decoded = ActivationStatistics::Decode(bytes, 2, false);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_FALSE(decoded->with_gram());
  EXPECT_EQ(Bytes(*decoded), bytes);
}

TEST(ActivationStatisticsTest, RefuseBytesThatAreNoStatistics) {
  std::string bytes = Bytes(Measure(0, 1));
  EXPECT_FALSE(ActivationStatistics::Decode(bytes, kColumns, false).ok());
  EXPECT_FALSE(ActivationStatistics::Decode(bytes.substr(1), kColumns, true).ok());
  bytes[7] = '\x80';  // a negative number of sequences
  const auto decoded = ActivationStatistics::Decode(bytes, kColumns, true);
  EXPECT_EQ(base::ReasonOf(decoded.status()), "STATISTICS_INVALID");
}

TEST(ActivationStatisticsTest, RefuseWhatIsNotFinite) {
  ActivationStatistics statistics(1, false);
  const float bad = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(base::ReasonOf(statistics.AddSequence(&bad, 1, 1)), "VALUE_OUT_OF_RANGE");
}

TEST(ExactSumTest, KeepsDoublesWithinItsResolution) {
  for (const double value : {0.0, 1.0, -1.5, 1e15, -1e15, 0x1p-60, 1.0 / 3}) {
    ExactSum sum = 0;
    ASSERT_TRUE(ToExact(value, sum));
    EXPECT_NEAR(FromExact(sum), value, 0x1p-60);
  }
  ExactSum sum = 5;
  EXPECT_FALSE(ToExact(0x1p63, sum));
  EXPECT_TRUE(sum == 5);
}

}  // namespace
}  // namespace espalier::sparsity
