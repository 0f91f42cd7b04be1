// One connection to a server that only looks: a TCP connection, and a TLS handshake that goes on
// where a real one would end, so that everything that is wrong is seen.
//
// Threading: not thread-safe. Every wait ends at the deadline, or soon after `stop` is requested.
#pragma once

#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/rpc/address.h"
#include "common/rpc/channel.h"

namespace espalier::rpc {

class Probe {
 public:
  Probe(absl::Time deadline, std::stop_token stop) : deadline_(deadline), stop_(std::move(stop)) {}
  ~Probe();
  Probe(const Probe&) = delete;
  Probe& operator=(const Probe&) = delete;

  // Tries all addresses of the host. Errors: Unavailable CONNECTION_REFUSED when all refuse, or
  // HOST_UNKNOWN; DeadlineExceeded without a reason when it cannot tell.
  absl::Status Connect(const Address& address);

  struct Handshake {
    bool is_tls = false;        // the server spoke TLS
    bool is_something = false;  // the server spoke something else
    // What is wrong with the server's certificate, as half sentences.
    std::vector<std::string> problems;
    bool asked_for_certificate = false;
    std::string accepted_authorities;  // of client certificates, as far as the server tells
    bool ended = false;                // the server ended the connection
    std::string alert;                 // in OpenSSL's words, when the server said why
  };
  // Does a handshake and waits for the server's first bytes. `options`: the files; without
  // tls_ca_file nothing is verified.
  Handshake Shake(const ChannelOptions& options, const Address& address);

 private:
  enum class Received { kBytes, kEnd, kNothing };

  bool Wait(int fd, short events) const;
  bool Send(std::string_view bytes) const;
  Received Receive(std::string& bytes) const;

  absl::Time deadline_;
  std::stop_token stop_;
  int fd_ = -1;
};

}  // namespace espalier::rpc
