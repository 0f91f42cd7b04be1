#include "common/net/source.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>

#include "fmt/format.h"

namespace espalier::net {

std::string PeerText(const sockaddr_storage& peer) {
  // What stands before an IPv4 address in an IPv6 one.
  constexpr int kMappedPrefix = 12;
  char text[INET6_ADDRSTRLEN] = "";
  if (peer.ss_family == AF_INET6) {
    const auto& address = reinterpret_cast<const sockaddr_in6&>(peer);
    if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)) {
      inet_ntop(AF_INET, address.sin6_addr.s6_addr + kMappedPrefix, text, sizeof(text));
      return fmt::format("{}:{}", text, ntohs(address.sin6_port));
    }
    inet_ntop(AF_INET6, &address.sin6_addr, text, sizeof(text));
    return fmt::format("[{}]:{}", text, ntohs(address.sin6_port));
  }
  const auto& address = reinterpret_cast<const sockaddr_in&>(peer);
  inet_ntop(AF_INET, &address.sin_addr, text, sizeof(text));
  return fmt::format("{}:{}", text, ntohs(address.sin_port));
}

std::string SourceOf(const std::string& peer) {
  const size_t colon = peer.rfind(':');
  if (colon == std::string::npos) return peer;
  if (peer.front() != '[') return peer.substr(0, colon);
  constexpr int kNetworkBytes = 8;
  in6_addr address{};
  const size_t end = peer.find(']');
  if (end == std::string::npos ||
      inet_pton(AF_INET6, peer.substr(1, end - 1).c_str(), &address) != 1) {
    return peer;
  }
  std::fill(address.s6_addr + kNetworkBytes, address.s6_addr + sizeof(address.s6_addr), 0);
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(AF_INET6, &address, text, sizeof(text));
  return std::string(text) + "/64";
}

}  // namespace espalier::net
