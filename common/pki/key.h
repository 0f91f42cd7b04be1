// Private keys and signing requests, as PEM texts.
//
// Keys are of the curve P-256: all TLS 1.2 and 1.3 peers know it, and a handshake takes little time.
// Threading: pure functions, but for NewKey(), whose key is random.
// Errors:    InvalidArgument TLS_FILE_UNREADABLE, TLS_KEY_ENCRYPTED, or PASSPHRASE_INVALID where that is
//            empty or has more than 1,000 bytes. Nothing of a key or passphrase is in them.
#pragma once

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace espalier::pki {

// PKCS#8, not encrypted.
std::string NewKey();
// PKCS#8, encrypted with AES-256 under a key that PBKDF2 makes of the passphrase.
absl::StatusOr<std::string> EncryptKey(std::string_view key, std::string_view passphrase);
bool IsEncrypted(std::string_view key);
// A key that is not encrypted is given back. Errors: TLS_KEY_ENCRYPTED where the passphrase does not fit.
absl::StatusOr<std::string> DecryptKey(std::string_view key, std::string_view passphrase);

// PKCS#10, signed by the key, with an empty subject: whoever signs it decides on the names.
absl::StatusOr<std::string> NewSigningRequest(std::string_view key);

}  // namespace espalier::pki
