#include "common/rpc/address.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/base/status.h"

namespace espalier::rpc {
namespace {

TEST(AddressTest, HostAndPortAreRead) {
  for (const auto& [text, host, port] : {std::tuple{"localhost:7070", "localhost", 7070},
                                         {"10.0.0.5:1", "10.0.0.5", 1},
                                         {"my_host-1.example:65535", "my_host-1.example", 65535},
                                         {"[::1]:7070", "::1", 7070},
                                         {"[fe80::1%eth0]:7070", "fe80::1%eth0", 7070},
                                         {"dns:7070", "dns", 7070}}) {
    const auto address = ParseAddress(text);
    ASSERT_TRUE(address.ok()) << text << address.status();
    EXPECT_EQ(address->host, host);
    EXPECT_EQ(address->port, port);
  }
}

TEST(AddressTest, EverythingElseIsRefusedWithTheRightForm) {
  for (const char* text : {"",
                           "localhost",
                           "127.0.0.1:",
                           ":7070",
                           "http://127.0.0.1:7070",
                           "127.0.0.1:7070/",
                           "127.0.0.1:99999",
                           "127.0.0.1:0",
                           "127.0.0.1:-1",
                           "127.0.0.1:+1",
                           "127.0.0.1:7070:7070",
                           "::1:7070",
                           "[::1]",
                           "[]:7070",
                           "[localhost]:7070",
                           "a b:7070",
                           "dns:///a:7070",
                           "a\n:7070",
                           "unix:/tmp/x",
                           "a:abc"}) {
    const auto address = ParseAddress(text);
    EXPECT_EQ(base::ReasonOf(address.status()), "INVALID_ADDRESS") << text;
    EXPECT_THAT(base::MessageOf(address.status()), ::testing::HasSubstr("host:port")) << text;
  }
}

TEST(AddressTest, ProxiesAreForOtherMachinesOnly) {
  setenv("http_proxy", "http://127.0.0.1:9", 1);
  EXPECT_EQ(ProxyVariable({"10.0.0.5", 7070}), "http_proxy");
  EXPECT_EQ(ProxyVariable({"127.0.0.1", 7070}), "");
  EXPECT_EQ(ProxyVariable({"::1", 7070}), "");
  EXPECT_EQ(ProxyVariable({"localhost", 7070}), "");
  setenv("no_proxy", "example.org,.0.0.5", 1);
  EXPECT_EQ(ProxyVariable({"10.0.0.5", 7070}), "");
  unsetenv("no_proxy");
  unsetenv("http_proxy");
  EXPECT_EQ(ProxyVariable({"10.0.0.5", 7070}), "");
}

TEST(AddressTest, ServersThatStandInForEachOtherAreNamedWithCommas) {
  EXPECT_THAT(ParseServers("a:7070").value(), testing::ElementsAre("a:7070"));
  EXPECT_THAT(ParseServers("a:7070,[::1]:7071").value(),
              testing::ElementsAre("a:7070", "[::1]:7071"));
  for (const char* wrong : {"", ",", "a:7070,", "a:7070, b:7070", "a:7070,b", "a:7070,a:7070",
                            "a:1,b:1,c:1,d:1,e:1,f:1,g:1,h:1,i:1"}) {
    EXPECT_EQ(base::ReasonOf(ParseServers(wrong).status()), "INVALID_ADDRESS") << wrong;
  }
}

}  // namespace
}  // namespace espalier::rpc
