// Addresses of servers as people write them.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::rpc {

struct Address {
  std::string host;  // a name or a number, IPv6 without its brackets
  int port = 0;      // 1..65535
};

// "localhost:7070", "10.0.0.5:7070" or "[::1]:7070", and nothing else: no scheme, no path.
// Errors: InvalidArgument INVALID_ADDRESS.
absl::StatusOr<Address> ParseAddress(std::string_view text);

// The servers of "a.example:7070,b.example:7070", which stand in for each other, as they are written; at
// most kMaxServers. Errors: InvalidArgument INVALID_ADDRESS, also for one that is named twice.
constexpr size_t kMaxServers = 8;
absl::StatusOr<std::vector<std::string>> ParseServers(std::string_view text);

// Whether the host is this machine: localhost, 127.0.0.0/8 or ::1.
bool IsLoopback(const Address& address);

// The variable of the environment, such as "http_proxy", by which gRPC sends connections to
// `address` through a proxy; "" when it does not.
std::string ProxyVariable(const Address& address);

}  // namespace espalier::rpc
