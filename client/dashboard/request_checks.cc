#include "client/dashboard/request_checks.h"

#include <arpa/inet.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "common/base/entropy.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/net/listener.h"
#include "common/rpc/address.h"
#include "fmt/format.h"

namespace espalier::dashboard {
namespace {

constexpr size_t kMaxHostBytes = 255;

bool IsNumeric(const std::string& host) {
  in6_addr ignored{};
  return inet_pton(AF_INET, host.c_str(), &ignored) == 1 ||
         inet_pton(AF_INET6, host.c_str(), &ignored) == 1;
}

bool IsAnyAddress(const std::string& host) { return host == "0.0.0.0" || host == "::"; }

std::string WithBrackets(const std::string& host) {
  return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

// A Host header in its parts; the port is "80" where there is none.
std::optional<net::Address> SplitHost(std::string_view text) {
  if (text.empty() || text.size() > kMaxHostBytes) return std::nullopt;
  const bool has_port = text.back() != ']' && text.find(':') != std::string_view::npos;
  return net::SplitAddress(has_port ? std::string(text) : std::string(text) + ":80");
}

// "https://a.example:8443" is "a.example:8443"; the usual ports are left out, as in a Host header.
std::string HostOfOrigin(std::string_view origin) {
  for (const auto& [scheme, port] :
       {std::pair<std::string_view, std::string_view>{"http://", ":80"}, {"https://", ":443"}}) {
    if (!origin.starts_with(scheme)) continue;
    std::string host = absl::AsciiStrToLower(std::string(origin.substr(scheme.size())));
    if (host.ends_with(port)) {
      host.resize(host.size() - port.size());
    }
    return host;
  }
  return "";
}

std::string Shown(const std::string& value) {
  constexpr size_t kMost = 100;
  return base::PrintablePrefix(value, kMost, {.with_backslash = "\""});
}

}  // namespace

absl::StatusOr<HostRules> HostRules::Make(const std::string& listen,
                                          const std::vector<std::string>& names) {
  HostRules rules;
  ESPALIER_ASSIGN_OR_RETURN(const net::Address bound, net::ParseAddress(listen, "--listen"));
  const bool local = rpc::IsLoopback({bound.host, 1});
  if (local || IsAnyAddress(bound.host)) {
    for (const char* host : {"127.0.0.1", "localhost", "[::1]"}) {
      rules.hosts_.push_back(fmt::format("{}:{}", host, bound.port));
    }
  }
  if (IsAnyAddress(bound.host)) {
    rules.numeric_port_ = bound.port;
  } else if (!rules.Allows(fmt::format("{}:{}", WithBrackets(bound.host), bound.port))) {
    rules.hosts_.push_back(
        absl::AsciiStrToLower(fmt::format("{}:{}", WithBrackets(bound.host), bound.port)));
  }
  // Browsers leave out the usual port.
  if (bound.port == "80") {
    const std::vector<std::string> with_port = rules.hosts_;
    for (const std::string& host : with_port)
      rules.hosts_.push_back(host.substr(0, host.size() - 3));
  }
  for (const std::string& name : names) {
    if (!SplitHost(name).has_value()) {
      return base::InvalidArgument(
          "INVALID_HOST",
          fmt::format("expected --allow-host NAME or NAME:PORT, as browsers send it in "
                      "the header Host, found \"{}\"",
                      Shown(name)));
    }
    const bool has_port = name.back() != ']' && name.find(':') != std::string::npos;
    (has_port ? rules.hosts_ : rules.names_).push_back(absl::AsciiStrToLower(name));
  }
  return rules;
}

bool HostRules::Allows(std::string_view host) const {
  const std::string lower = absl::AsciiStrToLower(std::string(host));
  if (std::find(hosts_.begin(), hosts_.end(), lower) != hosts_.end()) return true;
  const auto parts = SplitHost(lower);
  if (!parts.has_value()) return false;
  // Nobody can point a number at another address.
  if (!numeric_port_.empty() && parts->port == numeric_port_ && IsNumeric(parts->host)) return true;
  return std::find(names_.begin(), names_.end(), WithBrackets(parts->host)) != names_.end();
}

std::string HostRules::Described() const {
  std::vector<std::string> all = hosts_;
  all.insert(all.end(), names_.begin(), names_.end());
  if (!numeric_port_.empty()) all.push_back("any address as a number, with port " + numeric_port_);
  return absl::StrJoin(all, ", ");
}

std::optional<std::string> CrossSiteFault(const Request& request) {
  const std::string site = request.Header("sec-fetch-site");
  if (site.empty() || site == "same-origin" || site == "none") return std::nullopt;
  return fmt::format(
      "expected a request of this page, found one of another site (Sec-Fetch-Site: {}); open the "
      "dashboard itself",
      Shown(site));
}

std::optional<std::string> ActionFault(const Request& request, std::string_view csrf_token) {
  const std::string origin = request.Header("origin");
  const std::string site = request.Header("sec-fetch-site");
  if (origin.empty() && site.empty()) {
    return "expected the header Origin or Sec-Fetch-Site, by which browsers say whose page a "
           "request "
           "comes from, found neither; send Origin with the dashboard's own address";
  }
  if (!site.empty() && site != "same-origin") {
    return fmt::format(
        "expected an action of this page, found one with Sec-Fetch-Site: {}; use the "
        "dashboard itself",
        Shown(site));
  }
  if (!origin.empty() && HostOfOrigin(origin) != absl::AsciiStrToLower(request.Header("host"))) {
    return fmt::format(
        "expected an action of this page, found one of the origin \"{}\"; use the "
        "dashboard itself",
        Shown(origin));
  }
  const std::string token = request.Header("x-espalier-csrf");
  const bool right = token.size() == csrf_token.size() &&
                     CRYPTO_memcmp(token.data(), csrf_token.data(), token.size()) == 0;
  if (!right) {
    return "expected the header X-Espalier-CSRF with the csrf_token of /api/v1/session, found " +
           std::string(token.empty() ? "none" : "another one") +
           "; load the page again, since the token changes when the dashboard is started";
  }
  const std::string type = absl::AsciiStrToLower(request.Header("content-type"));
  if (type != "application/json" && !type.starts_with("application/json;")) {
    return fmt::format("expected a body of Content-Type: application/json, found \"{}\"",
                       Shown(type));
  }
  return std::nullopt;
}

std::string MakeCsrfToken() {
  constexpr size_t kBytes = 32;
  return absl::WebSafeBase64Escape(base::SystemEntropy().Bytes(kBytes));
}

std::vector<std::pair<std::string, std::string>> SecurityHeaders() {
  return {
      {"Content-Security-Policy",
       "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
       "connect-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; "
       "frame-ancestors 'none'"},
      {"X-Content-Type-Options", "nosniff"},
      {"Referrer-Policy", "no-referrer"},
      {"Cross-Origin-Opener-Policy", "same-origin"},
      {"Cross-Origin-Resource-Policy", "same-origin"},
  };
}

}  // namespace espalier::dashboard
