#include "common/base/entropy.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

#include "tests/support/seeded_entropy.h"

namespace espalier::base {
namespace {

TEST(SystemEntropyTest, BytesAreAsManyAsAskedForAndNeverTheSame) {
  SystemEntropy entropy;
  EXPECT_EQ(entropy.Bytes(0), "");
  std::set<std::string> seen;
  for (int i = 0; i < 1000; ++i) {
    const std::string bytes = entropy.Bytes(16);
    EXPECT_EQ(bytes.size(), 16u);
    EXPECT_TRUE(seen.insert(bytes).second);
  }
  // More than the kernel gives in one call without being asked again.
  EXPECT_EQ(entropy.Bytes(1 << 20).size(), size_t{1} << 20);
}

TEST(SeededEntropyTest, SameSeedGivesTheSameBytesAndNoTwoCallsTheSame) {
  test::SeededEntropy first(7);
  test::SeededEntropy again(7);
  test::SeededEntropy other(8);
  const std::string bytes = first.Bytes(16);
  EXPECT_EQ(again.Bytes(16), bytes);
  EXPECT_NE(other.Bytes(16), bytes);
  EXPECT_NE(first.Bytes(16), bytes);
}

}  // namespace
}  // namespace espalier::base
