#include "common/rpc/address.h"

#include <algorithm>
#include <cstdlib>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/net/listener.h"

namespace espalier::rpc {
namespace {

constexpr size_t kShownBytes = 100;
constexpr size_t kMaxHostBytes = 253;

bool IsName(std::string_view host) {
  if (host.empty() || host.size() > kMaxHostBytes) return false;
  for (const char c : host) {
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '.' && c != '_') return false;
  }
  return true;
}

// The numbers of an IPv6 address, with an interface such as %eth0.
bool IsIpv6(std::string_view host) {
  const size_t percent = host.find('%');
  if (percent != std::string_view::npos && !IsName(host.substr(percent + 1))) return false;
  const std::string_view number = host.substr(0, percent);
  return number.find(':') != std::string_view::npos &&
         number.find_first_not_of("0123456789abcdefABCDEF:.") == std::string_view::npos;
}

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

absl::StatusOr<Address> ParseAddress(std::string_view text) {
  if (const auto split = net::SplitAddress(text)) {
    Address address{split->host, 0};
    // Only an IPv6 address has colons, and only such a one may stand in brackets.
    const bool is_host = text.front() == '[' ? IsIpv6(address.host) : IsName(address.host);
    if (is_host && absl::SimpleAtoi(split->port, &address.port) && address.port > 0) return address;
  }
  return base::InvalidArgument(
      "INVALID_ADDRESS",
      "expected an address as host:port with a port from 1 to 65535, such as 127.0.0.1:7070 or "
      "[::1]:7070, without http:// in front, found '" +
          base::PrintablePrefix(text, kShownBytes) + "'");
}

absl::StatusOr<std::vector<std::string>> ParseServers(std::string_view text) {
  std::vector<std::string> servers;
  const std::vector<std::string> named =
      absl::StrSplit(absl::string_view(text.data(), text.size()), ',');
  for (const std::string& server : named) {
    ESPALIER_RETURN_IF_ERROR(ParseAddress(server).status());
    if (std::ranges::find(servers, server) != servers.end()) {
      return base::InvalidArgument("INVALID_ADDRESS",
                                   absl::StrCat("expected each server once, found ", server,
                                                " twice; leave one of them out"));
    }
    servers.emplace_back(server);
  }
  if (servers.size() > kMaxServers) {
    return base::InvalidArgument("INVALID_ADDRESS",
                                 absl::StrCat("expected at most ", kMaxServers, " servers, found ",
                                              servers.size(), "; leave some of them out"));
  }
  return servers;
}

bool IsLoopback(const Address& address) {
  return address.host == "localhost" || address.host == "::1" ||
         absl::StartsWith(address.host, "127.");
}

std::string ProxyVariable(const Address& address) {
  if (IsLoopback(address)) return "";
  // The order in which gRPC looks at them.
  for (const char* exceptions : {"no_grpc_proxy", "no_proxy"}) {
    const std::string hosts = Variable(exceptions);
    if (hosts.empty()) continue;
    for (const std::string& suffix :
         std::vector<std::string>(absl::StrSplit(hosts, ',', absl::SkipEmpty()))) {
      if (absl::EndsWith(address.host, suffix)) return "";
    }
    break;
  }
  for (const char* proxy : {"grpc_proxy", "https_proxy", "http_proxy"}) {
    if (!Variable(proxy).empty()) return proxy;
  }
  return "";
}

}  // namespace espalier::rpc
