#include "server/reduce/statistics_reducer.h"

#include <gtest/gtest.h>

#include <cstring>

#include "common/base/status.h"

namespace espalier::server::reduce {
namespace {

sparsity::ActivationStatistics Measured(float seed, int sequences) {
  sparsity::ActivationStatistics statistics(3, true);
  for (int s = 0; s < sequences; ++s) {
    const std::vector<float> x = {seed, 2, 3, 4 * seed, 5, 6.5F + static_cast<float>(s)};
    EXPECT_TRUE(statistics.AddSequence(x.data(), 2, 2).ok());
  }
  return statistics;
}

Partial MakePartial(const std::string& participant, float seed, int sequences) {
  std::string bytes;
  Measured(seed, sequences).AppendTo(bytes);
  Partial partial;
  partial.participant = participant;
  partial.examples = sequences;
  // In uneven pieces, as a spool file gives them.
  partial.statistics = [bytes](const auto& sink) -> absl::Status {
    const size_t half = bytes.size() / 2 + 1;
    ESPALIER_RETURN_IF_ERROR(sink(std::string_view(bytes).substr(0, half)));
    return sink(std::string_view(bytes).substr(half));
  };
  return partial;
}

std::string Encoded(const Reduced& reduced) {
  std::string bytes;
  for (const auto& statistics : reduced.statistics) statistics.AppendTo(bytes);
  return bytes;
}

TEST(StatisticsReducerTest, SumsAreTheSameForAnyOrderOfArrival) {
  StatisticsReducer forwards({{3, true}});
  StatisticsReducer backwards({{3, true}});
  const std::vector<Partial> partials = {MakePartial("a", .1F, 2), MakePartial("b", -7.3F, 1),
                                         MakePartial("c", 0, 0)};
  for (size_t i = 0; i < partials.size(); ++i) {
    ASSERT_TRUE(forwards.Merge(partials[i]).ok());
    ASSERT_TRUE(backwards.Merge(partials[partials.size() - 1 - i]).ok());
  }
  const auto a = forwards.Finish();
  const auto b = backwards.Finish();
  ASSERT_TRUE(a.ok() && b.ok());
  EXPECT_EQ(Encoded(*a), Encoded(*b));
  EXPECT_EQ(a->examples, 3);
  EXPECT_EQ(a->statistics[0].sequences(), 3);
}

TEST(StatisticsReducerTest, SavedSumsAreAbsorbedWithTheSameBits) {
  const std::vector<Partial> partials = {MakePartial("a", .1F, 2), MakePartial("b", -7.3F, 1),
                                         MakePartial("c", 0, 0)};
  StatisticsReducer alone({{3, true}});
  StatisticsReducer left({{3, true}});
  StatisticsReducer right({{3, true}});
  for (const Partial& partial : partials) ASSERT_TRUE(alone.Merge(partial).ok());
  ASSERT_TRUE(left.Merge(partials[1]).ok());
  ASSERT_TRUE(right.Merge(partials[0]).ok());
  ASSERT_TRUE(right.Merge(partials[2]).ok());
  const std::string saved = right.Save().value();
  ASSERT_TRUE(left.Absorb(saved).ok());
  EXPECT_EQ(base::ReasonOf(left.Absorb(saved)), "DUPLICATE_PARTICIPANT");
  EXPECT_EQ(base::ReasonOf(StatisticsReducer({{4, true}}).Absorb(saved)), "SAVED_SUMS_INVALID");
  const auto expected = alone.Finish();
  const auto found = left.Finish();
  ASSERT_TRUE(expected.ok() && found.ok());
  EXPECT_EQ(Encoded(*found), Encoded(*expected));
  EXPECT_EQ(found->examples, expected->examples);
}

TEST(StatisticsReducerTest, RefusesWhatDoesNotFitAndStaysAsItWas) {
  StatisticsReducer reducer({{3, true}});
  ASSERT_TRUE(reducer.Merge(MakePartial("a", 1, 2)).ok());
  EXPECT_EQ(base::ReasonOf(reducer.Merge(MakePartial("a", 1, 2))), "DUPLICATE_PARTICIPANT");
  Partial other = MakePartial("b", 1, 2);
  other.examples = 5;
  EXPECT_EQ(base::ReasonOf(reducer.Merge(other)), "STATISTICS_INVALID");
  for (const size_t size : {0, 5, 100'000}) {
    Partial wrong = MakePartial("b", 1, 2);
    wrong.statistics = [size](const auto& sink) { return sink(std::string(size, 'x')); };
    EXPECT_EQ(base::ReasonOf(reducer.Merge(wrong)), "SHAPE_MISMATCH") << size;
  }
  Partial none = MakePartial("b", 1, 2);
  none.statistics = {};
  EXPECT_EQ(base::ReasonOf(reducer.Merge(none)), "SHAPE_MISMATCH");
  const auto reduced = reducer.Finish();
  ASSERT_TRUE(reduced.ok());
  EXPECT_EQ(reduced->statistics[0].sequences(), 2);
}

}  // namespace
}  // namespace espalier::server::reduce
