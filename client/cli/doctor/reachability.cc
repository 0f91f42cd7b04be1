#include "client/cli/doctor/reachability.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <netdb.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>
#include <set>
#include <vector>

#include "common/base/status.h"
#include "common/io/file_system.h"
#include "common/pki/certificate.h"
#include "common/rpc/address.h"
#include "common/rpc/tls.h"

namespace espalier::cli {
namespace {

constexpr uint64_t kMostCertificateBytes = 1 << 20;
using Level = Finding::Level;
using Addresses = std::unique_ptr<addrinfo, decltype(&freeaddrinfo)>;

std::string TextOf(const addrinfo& address) {
  std::array<char, NI_MAXHOST> host{};
  const int error = getnameinfo(address.ai_addr, address.ai_addrlen, host.data(), host.size(),
                                nullptr, 0, NI_NUMERICHOST);
  return error == 0 ? host.data() : "?";
}

// "" when it came about.
std::string WhyNoConnection(const addrinfo& address) {
  const int socket_fd = socket(address.ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (socket_fd < 0) return std::strerror(errno);
  int error = 0;
  if (connect(socket_fd, address.ai_addr, address.ai_addrlen) != 0) {
    error = errno;
    pollfd wait{socket_fd, POLLOUT, 0};
    if (error == EINPROGRESS) {
      socklen_t size = sizeof(error);
      const int ready = poll(&wait, 1, static_cast<int>(absl::ToInt64Milliseconds(kConnectWithin)));
      if (ready <= 0) {
        error = ETIMEDOUT;
      } else if (getsockopt(socket_fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0) {
        error = errno;
      }
    }
  }
  close(socket_fd);
  return error == 0 ? "" : std::strerror(error);
}

// Each address once, in the order in which they would be tried.
std::vector<const addrinfo*> Each(const Addresses& addresses) {
  std::vector<const addrinfo*> all;
  std::set<std::string> seen;
  for (const addrinfo* one = addresses.get(); one != nullptr; one = one->ai_next) {
    if (seen.insert(TextOf(*one)).second) all.push_back(one);
  }
  return all;
}

Finding CheckPort(const std::string& server, const Addresses& addresses) {
  std::string refused;
  std::string reached;
  for (const addrinfo* address : Each(addresses)) {
    const std::string why = WhyNoConnection(*address);
    if (why.empty()) {
      reached = TextOf(*address);
    } else {
      refused += fmt::format("{}{}: {}", refused.empty() ? "" : "; ", TextOf(*address), why);
    }
  }
  if (reached.empty()) {
    return {Level::kError, "connection",
            fmt::format("{} takes no connections ({})", server, refused),
            "start the coordinator, give it --listen with an address that this machine reaches, or "
            "open the port in the firewall"};
  }
  if (!refused.empty()) {
    return {Level::kWarning, "connection",
            fmt::format("{} takes connections at {}, and not at all its addresses ({})", server,
                        reached, refused),
            "take the addresses that do not answer out of the name, or let the coordinator listen "
            "on all"};
  }
  return {Level::kOk, "connection", fmt::format("{} takes connections", server), ""};
}

Finding CheckCertificateFile(const std::string& what, const std::string& path, absl::Time now) {
  const auto pem = io::ReadFile(io::PosixFileSystem(), path, kMostCertificateBytes);
  const auto certificate =
      pem.ok() ? pki::ReadCertificate(*pem) : absl::StatusOr<pki::Certificate>(pem.status());
  if (!certificate.ok()) {
    return {Level::kError, "certificates", base::MessageOf(certificate.status()),
            "name a file with a certificate in PEM"};
  }
  if (certificate->not_before > now) {
    return {Level::kError, "certificates",
            fmt::format("{} begins only at {}", what, absl::FormatTime(certificate->not_before)),
            "set this machine's clock"};
  }
  return CheckExpiry(what, certificate->not_after, now,
                     "make another one: `espalier cert renew`, or ask whoever runs the cluster");
}

// Somebody else could be us.
Findings CheckSecretFile(const std::string& what, const std::string& path) {
  struct stat status {};
  if (stat(path.c_str(), &status) != 0) {
    return {{Level::kError, "certificates",
             fmt::format("{} {}: {}", what, path, std::strerror(errno)),
             "name a file that is there"}};
  }
  if ((status.st_mode & (S_IRWXG | S_IRWXO)) == 0) return {};
  return {{Level::kWarning, "certificates",
           fmt::format("{} {} can be read by other users of this machine", what, path),
           fmt::format("chmod 600 {}", path)}};
}

}  // namespace

Findings CheckServer(const std::string& server) {
  const auto parsed = rpc::ParseAddress(server);
  if (!parsed.ok()) {
    return {
        {Level::kError, "address", base::MessageOf(parsed.status()), "give --server as HOST:PORT"}};
  }
  Findings findings;
  const std::string proxy = rpc::ProxyVariable(*parsed);
  if (!proxy.empty()) {
    findings.push_back(
        {Level::kWarning, "proxy",
         fmt::format("the variable {} sends connections to {} through a proxy", proxy, server),
         fmt::format("where that is not meant: export no_proxy={}", parsed->host)});
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* first = nullptr;
  const int error =
      getaddrinfo(parsed->host.c_str(), std::to_string(parsed->port).c_str(), &hints, &first);
  const Addresses addresses(first, &freeaddrinfo);
  if (error != 0) {
    findings.push_back(
        {Level::kError, "name",
         fmt::format("{} has no address: {}", parsed->host, gai_strerror(error)),
         "look for a mistake in --server, or at this machine's DNS (/etc/resolv.conf, "
         "/etc/hosts)"});
    return findings;
  }
  std::string texts;
  for (const addrinfo* address : Each(addresses)) {
    texts += (texts.empty() ? "" : ", ") + TextOf(*address);
  }
  findings.push_back({Level::kOk, "name", fmt::format("{} is {}", parsed->host, texts), ""});
  findings.push_back(CheckPort(server, addresses));
  return findings;
}

Findings CheckOwnFiles(const client::ClientOptions& options, absl::Time now) {
  std::string ca = options.tls_ca_file;
  std::string certificate = options.tls_cert_file;
  std::string key = options.tls_key_file;
  if (!options.tls_dir.empty()) rpc::FillFromFolder(options.tls_dir, ca, certificate, key);
  Findings findings;
  if (!ca.empty()) findings.push_back(CheckCertificateFile("the authority " + ca, ca, now));
  if (!certificate.empty()) {
    findings.push_back(CheckCertificateFile("our certificate " + certificate, certificate, now));
  }
  for (const auto& [what, path] : {std::pair{"our key", key}, {"our token", options.token_file}}) {
    if (path.empty()) continue;
    for (Finding& finding : CheckSecretFile(what, path)) findings.push_back(std::move(finding));
  }
  if (findings.empty()) {
    findings.push_back({Level::kOk, "certificates", "none are given: plain text", ""});
  }
  return findings;
}

Findings CheckThisMachine() {
  constexpr rlim_t kFew = 256;
  rlimit files{};
  if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_max >= kFew) return {};
  return {{Level::kWarning, "files",
           fmt::format("processes on this machine may open {} files", files.rlim_max),
           "raise it: ulimit -Hn"}};
}

}  // namespace espalier::cli
