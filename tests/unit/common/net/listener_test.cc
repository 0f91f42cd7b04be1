#include "common/net/listener.h"

#include <gtest/gtest.h>

#include "common/base/status.h"

namespace espalier::net {
namespace {

TEST(ListenerTest, FreePortIsToldInTheAddress) {
  const auto listener = Listener::Open("127.0.0.1:0", "--listen");
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_TRUE(listener->address().starts_with("127.0.0.1:")) << listener->address();
  EXPECT_FALSE(listener->address().ends_with(":0"));
  const auto second = Listener::Open(listener->address(), "--listen");
  EXPECT_EQ(base::ReasonOf(second.status()), "PORT_IN_USE");
  EXPECT_NE(base::MessageOf(second.status()).find("--listen"), std::string::npos);
}

TEST(ListenerTest, NameIsListenedToAtOnePort) {
  const auto listener = Listener::Open("localhost:0", "--listen");
  ASSERT_TRUE(listener.ok()) << listener.status();
  EXPECT_GE(listener->sockets().size(), 1u);
}

TEST(ListenerTest, AddressesOfOtherFormsAndMachinesAreRefused) {
  for (const char* text : {"nonsense", ":7070", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:7x",
                           "http://127.0.0.1:70", "::1:7070", "[]:7070"}) {
    EXPECT_EQ(base::ReasonOf(Listener::Open(text, "--listen").status()), "INVALID_ADDRESS") << text;
  }
  EXPECT_EQ(base::ReasonOf(Listener::Open("203.0.113.1:0", "--listen").status()), "PORT_IN_USE");
}

}  // namespace
}  // namespace espalier::net
