// Caller: whom a call comes from, as far as that is proved.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/pki/certificate.h"
#include "common/pki/identity.h"

namespace espalier::server::access {

// What comes with a call, before anything of it is believed.
struct Credentials {
  std::string peer;           // "1.2.3.4:5"
  bool tls = false;           // gRPC has verified `certificates`, if there are any
  std::string certificates;   // PEM, with those between it and the root behind it; "": none
  std::string authorization;  // the metadata of that name; "": none
};

struct Caller {
  enum class Source { kOpen, kCertificate, kToken };

  Source source = Source::kOpen;
  pki::Role role = pki::Role::kAdmin;
  std::string name = {};        // "" with kOpen
  std::string credential = {};  // the certificate's serial number, or the token's name
  std::string peer = {};
  absl::Time expires = absl::InfiniteFuture();
  // With kCertificate: the caller's, and those between it and the root.
  std::shared_ptr<const std::vector<pki::Certificate>> certificates = nullptr;

  // Nobody is asked who he is, and everybody may do everything.
  bool is_open() const { return source == Source::kOpen; }
  // Whether what belongs to the user `owner` is there for the caller.
  bool MaySee(const std::string& owner) const {
    return role != pki::Role::kSubmitter || owner == name;
  }
};

}  // namespace espalier::server::access
