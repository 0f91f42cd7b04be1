#include "server/admission/admission.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"

namespace espalier::server::admission {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// What the program itself takes of a budget.
constexpr uint64_t kProgram = 64 << 20;

Price PriceOfBytes(double bytes) {
  Price price;
  price.bytes = bytes;
  price.parts = {{"the model", bytes, /*by_weights=*/true, false}};
  price.stored_weights = bytes / 40;
  price.participants = 1;
  return price;
}

TEST(AdmissionTest, JobThatCanNeverFitIsRefusedWithTheSumAndWhatWouldFit) {
  const Admission admission(kProgram + 1'000'000'000);
  const auto refusal = admission.Refusal({}, PriceOfBytes(3.6e9));
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->field, "model");
  EXPECT_THAT(refusal->description, HasSubstr("needs about 3.6 GB"));
  EXPECT_THAT(refusal->description, HasSubstr("the model 3.6 GB"));
  EXPECT_THAT(refusal->description, HasSubstr("1.0 GB of its budget of 1.1 GB"));
  EXPECT_THAT(refusal->description, HasSubstr("25,000,000 stored weights would fit"));
  EXPECT_FALSE(admission.Refusal({}, PriceOfBytes(0.9e9)).has_value());
}

TEST(AdmissionTest, SmallPartsOfTheSumAreNotNamed) {
  const Admission admission(kProgram + 1'000'000);
  Price price = PriceOfBytes(1e9);
  price.parts.push_back({"crumbs", 1000, false, false});
  EXPECT_THAT(admission.Refusal({}, price)->description, Not(HasSubstr("crumbs")));
}

TEST(AdmissionTest, WithoutABudgetEverythingIsAdmitted) {
  Admission admission(0);
  EXPECT_FALSE(admission.Refusal({}, PriceOfBytes(1e18)).has_value());
  for (const char* job : {"a", "b"}) {
    admission.Enter(job, PriceOfBytes(1e18));
    EXPECT_EQ(admission.MayBegin(job, true).value(), "");
  }
}

TEST(AdmissionTest, JobWaitsUntilOthersHaveLeft) {
  Admission admission(kProgram + 1000);
  for (const char* job : {"a", "b", "c"}) admission.Enter(job, PriceOfBytes(400));
  EXPECT_EQ(admission.MayBegin("a", true).value(), "");
  EXPECT_EQ(admission.MayBegin("b", true).value(), "");
  EXPECT_THAT(admission.MayBegin("c", true).value(), HasSubstr("running jobs take 0.8 kB"));
  admission.Leave("a", true);
  EXPECT_EQ(admission.MayBegin("c", true).value(), "");
}

TEST(AdmissionTest, JobsThatWaitBeginInTheOrderInWhichTheyCame) {
  Admission admission(kProgram + 1000);
  admission.Enter("running", PriceOfBytes(600));
  admission.Enter("large", PriceOfBytes(800));
  admission.Enter("small", PriceOfBytes(100));
  EXPECT_EQ(admission.MayBegin("running", true).value(), "");
  EXPECT_NE(admission.MayBegin("large", true).value(), "");
  // It would fit, but then the large one might never do.
  EXPECT_THAT(admission.MayBegin("small", true).value(), HasSubstr("jobs before this one"));
  admission.Leave("running", true);
  EXPECT_THAT(admission.MayBegin("small", true).value(), HasSubstr("jobs before this one"));
  EXPECT_EQ(admission.MayBegin("large", true).value(), "");
  EXPECT_EQ(admission.MayBegin("small", true).value(), "");
}

TEST(AdmissionTest, JobThatWaitsForWorkersIsInNobodysWay) {
  Admission admission(kProgram + 1000);
  for (const char* job : {"a", "b", "c"}) admission.Enter(job, PriceOfBytes(600));
  EXPECT_EQ(admission.MayBegin("a", true).value(), "");
  EXPECT_NE(admission.MayBegin("b", true).value(), "");
  EXPECT_NE(admission.MayBegin("c", true).value(), "");
  EXPECT_EQ(admission.MayBegin("b", /*ready=*/false).value(), "");
  admission.Leave("a", true);
  EXPECT_EQ(admission.MayBegin("c", true).value(), "");
  // A job may leave while it waits, too.
  EXPECT_NE(admission.MayBegin("b", true).value(), "");
  admission.Leave("b", true);
}

TEST(AdmissionTest, RecordsOfJobsAreCountedAsTheyGrowAndStay) {
  Admission admission(kProgram + 10'000);
  Price price = PriceOfBytes(6000);
  price.record_bytes = 1000;
  price.round_bytes = 10;
  const auto room = [&] {
    double bytes = 0;
    while (!admission.Refusal({}, PriceOfBytes(bytes + 5)).has_value()) bytes += 5;
    return bytes;
  };
  EXPECT_EQ(room(), 10'000);
  admission.Enter("a", price);
  EXPECT_EQ(room(), 9000);
  EXPECT_EQ(admission.MayBegin("a", true).value(), "");
  // In the event log, and in the history that is shown.
  admission.Progress("a", 10);
  EXPECT_EQ(room(), 9000 - 10 * 35);
  admission.Leave("a", true);
  EXPECT_EQ(room(), 9000 - 10 * 35);
  // What is kept of a job outside of memory takes none.
  admission.Enter("b", price);
  admission.Progress("b", 4);
  admission.Leave("b", false);
  EXPECT_EQ(room(), 9000 - 10 * 35);
}

// It would wait for ever, and everyone behind it.
TEST(AdmissionTest, WaitingJobThatNoLongerFitsAloneIsToldSoAndHoldsNobodyUp) {
  Admission admission(kProgram + 10'000);
  Price growing = PriceOfBytes(4000);
  growing.round_bytes = 10;
  admission.Enter("growing", growing);
  admission.Enter("large", PriceOfBytes(8000));
  admission.Enter("small", PriceOfBytes(1000));
  EXPECT_EQ(admission.MayBegin("growing", true).value(), "");
  EXPECT_NE(admission.MayBegin("large", true).value(), "");
  EXPECT_NE(admission.MayBegin("small", true).value(), "");
  admission.Progress("growing", 100);
  const absl::Status never = admission.MayBegin("large", true).status();
  EXPECT_EQ(base::ReasonOf(never), "MEMORY_BUDGET_EXCEEDED");
  EXPECT_THAT(base::MessageOf(never), HasSubstr("needs about 8.0 kB"));
  EXPECT_THAT(base::MessageOf(never), HasSubstr("leaves 6.5 kB of the budget"));
  admission.Leave("large", true);
  EXPECT_EQ(admission.MayBegin("small", true).value(), "");
}

// Jobs of many rounds run beside each other: what is kept of them comes one by one.
TEST(AdmissionTest, RoundsThatAreStillToComeKeepNobodyWaiting) {
  Admission admission(kProgram + 10'000);
  Price price = PriceOfBytes(9000);
  price.history_bytes = 7000;
  for (const char* job : {"a", "b", "c"}) {
    admission.Enter(job, price);
    EXPECT_EQ(admission.MayBegin(job, true).value(), "");
  }
}

}  // namespace
}  // namespace espalier::server::admission
