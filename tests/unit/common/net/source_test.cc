#include "common/net/source.h"

#include <gtest/gtest.h>

namespace espalier::net {
namespace {

TEST(SourceTest, IsTheAddressOrTheNetwork) {
  EXPECT_EQ(SourceOf("1.2.3.4:5"), "1.2.3.4");
  EXPECT_EQ(SourceOf("[2001:db8:1:2:3:4:5:6]:789"), "2001:db8:1:2::/64");
  EXPECT_EQ(SourceOf("[2001:db8:1:2::9]:1"), SourceOf("[2001:db8:1:2:ffff::]:2"));
  EXPECT_NE(SourceOf("[2001:db8:1:2::9]:1"), SourceOf("[2001:db8:1:3::9]:1"));
  EXPECT_EQ(SourceOf("[::1]:5"), "::/64");
}

TEST(SourceTest, WhatIsNoPeerIsItsOwnSource) {
  EXPECT_EQ(SourceOf(""), "");
  EXPECT_EQ(SourceOf("inproc"), "inproc");
  EXPECT_EQ(SourceOf("[nonsense]:1"), "[nonsense]:1");
  EXPECT_EQ(SourceOf("[::1:7"), "[::1:7");
}

}  // namespace
}  // namespace espalier::net
