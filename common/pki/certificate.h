// What a certificate says.
//
// Threading, determinism: pure functions.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/pki/identity.h"

namespace espalier::pki {

struct Certificate {
  std::string subject;     // "CN = edge-1", printable
  std::string issuer;      // printable
  std::string issuer_key;  // by its authority key identifier; lower-case hexadecimal, or ""
  std::string serial;      // lower-case hexadecimal, without leading zeros
  std::optional<Identity> identity;  // absent where it has no such URI, or more than one
  std::vector<std::string> hosts;    // host names and addresses that it is for
  absl::Time not_before;
  absl::Time not_after;
  bool is_authority = false;
};

// Of the first certificate in a PEM text. Errors: InvalidArgument TLS_FILE_UNREADABLE.
absl::StatusOr<Certificate> ReadCertificate(std::string_view pem);
// Each certificate in a PEM text by itself, in their order; what is none is left out, also all behind a
// damaged block.
std::vector<std::string> SplitCertificates(std::string_view pem);
// SHA-256 of the first certificate's DER form, in lower-case hexadecimal.
absl::StatusOr<std::string> FingerprintOf(std::string_view pem);

}  // namespace espalier::pki
