#include "common/net/descriptors.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "common/base/status.h"

namespace espalier::net {
namespace {

TEST(DescriptorsTest, AQuarterIsKeptForFilesWithinBounds) {
  EXPECT_EQ(DivideDescriptors(40).connections, 30);
  EXPECT_EQ(DivideDescriptors(32).connections, 24);
  EXPECT_EQ(DivideDescriptors(1024).connections, 768);
  EXPECT_EQ(DivideDescriptors(20'000).connections, 19'744);
  EXPECT_EQ(DivideDescriptors(20'000).metrics, 64);
  EXPECT_GE(DivideDescriptors(32).metrics, 2);
}

TEST(DescriptorsTest, SoftLimitRisesToTheHardOne) {
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit low = before;
  low.rlim_cur = 64;
  setrlimit(RLIMIT_NOFILE, &low);
  const auto budget = RaiseDescriptorLimit(32);
  ASSERT_TRUE(budget.ok()) << budget.status();
  EXPECT_GE(budget->limit, 64);
  rlimit after{};
  getrlimit(RLIMIT_NOFILE, &after);
  EXPECT_EQ(after.rlim_cur, static_cast<rlim_t>(budget->limit));
}

TEST(DescriptorsTest, TooFewAreRefusedWithTheRemedy) {
  const auto budget = RaiseDescriptorLimit(2'000'000'000);
  EXPECT_EQ(base::ReasonOf(budget.status()), "TOO_FEW_DESCRIPTORS");
  EXPECT_NE(base::MessageOf(budget.status()).find("ulimit -n"), std::string::npos);
}

}  // namespace
}  // namespace espalier::net
