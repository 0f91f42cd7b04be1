// Listening sockets for an address in the form HOST:PORT.
//
// Hosts:     a name, an IPv4 address or an IPv6 address in brackets. A name with several addresses
//            is listened to on each of them that is this machine's, at the same port. "0.0.0.0" is
//            all IPv4 addresses, "[::]" those and all IPv6 addresses.
// Ownership: sockets close with the Listener.
// Errors:    InvalidArgument INVALID_ADDRESS when the form is another; Unavailable PORT_IN_USE when
//            nothing can be listened to. `flag` is the flag that the messages tell to change.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace espalier::net {

struct Address {
  std::string host;  // without brackets
  std::string port;  // "0" to "65535"
};

// HOST:PORT in its two parts; nothing when the form is another. What a host may be called is not
// looked at, but for IPv6 addresses, which stand in brackets.
std::optional<Address> SplitAddress(std::string_view text);
absl::StatusOr<Address> ParseAddress(const std::string& text, const std::string& flag);

class Listener {
 public:
  static absl::StatusOr<Listener> Open(const std::string& address, const std::string& flag);
  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&&) = delete;
  ~Listener();

  // Non-blocking, closed on exec, at least one.
  const std::vector<int>& sockets() const { return sockets_; }
  // As it was given, with the port that was bound.
  const std::string& address() const { return address_; }

 private:
  Listener() = default;

  std::vector<int> sockets_;
  std::string address_;
};

}  // namespace espalier::net
