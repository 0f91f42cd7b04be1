// What tests of certificates share: chains as OpenSSL verifies them in a handshake, and keys of other kinds.
#pragma once

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "common/base/check.h"
#include "common/pki/authority.h"
#include "common/pki/certificate.h"
#include "common/pki/key.h"
#include "common/pki/openssl.h"

namespace espalier::pki {

inline absl::Time Now() { return absl::FromUnixSeconds(1'800'000'000); }

inline constexpr absl::Duration kYear = absl::Hours(365 * 24);

// A root and its authority for workers, made once.
struct Authorities {
  AuthorityFiles root = NewRoot(Now(), 10 * kYear);
  AuthorityFiles workers = NewWorkerAuthority(root, Now(), 5 * kYear).value();
};
inline const Authorities& Made() {
  static const auto& made = *new Authorities;
  return made;
}

inline Subject Of(Role role, const std::string& name, std::vector<std::string> hosts = {}) {
  return {.identity = {role, name}, .hosts = std::move(hosts), .now = Now(), .lifetime = kYear};
}

inline std::string Issued(const AuthorityFiles& files, const Subject& subject) {
  return Authority::Load(files).value().Issue(subject, NewKey()).value();
}

inline CertificatePtr Decoded(const std::string& pem) {
  return FirstCertificate(pem, "a certificate").value();
}

// The error of OpenSSL's verification of a certificate, with what is behind it in `chain`, by a peer that trusts
// `root`: "ok" where there is none. `purpose` is X509_PURPOSE_SSL_CLIENT or _SERVER.
inline std::string Verified(const std::string& chain, const std::string& root, int purpose,
                            absl::Time now = Now(), const std::string& list = "") {
  using StorePtr = OpenSsl<X509_STORE, X509_STORE_free>;
  using ContextPtr = OpenSsl<X509_STORE_CTX, X509_STORE_CTX_free>;
  const Quiet quiet;
  const StorePtr store(X509_STORE_new());
  X509_STORE_add_cert(store.get(), Decoded(root).get());
  if (!list.empty()) {
    const OpenSsl<X509_CRL, X509_CRL_free> read(
        PEM_read_bio_X509_CRL(Reader(list).get(), nullptr, nullptr, nullptr));
    ESPALIER_CHECK(read != nullptr, "a list can be read");
    X509_STORE_add_crl(store.get(), read.get());
    X509_STORE_set_flags(store.get(), X509_V_FLAG_CRL_CHECK);
  }
  const std::vector<std::string> parts = SplitCertificates(chain);
  std::vector<CertificatePtr> behind;
  const OpenSsl<STACK_OF(X509), [](STACK_OF(X509) * stack) { sk_X509_free(stack); }> untrusted(
      sk_X509_new_null());
  for (size_t i = 1; i < parts.size(); ++i) {
    behind.push_back(Decoded(parts[i]));
    sk_X509_push(untrusted.get(), behind.back().get());
  }
  const CertificatePtr leaf = Decoded(chain);
  const ContextPtr context(X509_STORE_CTX_new());
  X509_STORE_CTX_init(context.get(), store.get(), leaf.get(), untrusted.get());
  X509_STORE_CTX_set_purpose(context.get(), purpose);
  X509_STORE_CTX_set_time(context.get(), 0, absl::ToTimeT(now));
  if (X509_verify_cert(context.get()) == 1) return "ok";
  return X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get()));
}

inline std::string PemOfKey(const KeyPtr& key) {
  const BioPtr bio = Writer();
  PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return Written(*bio);
}

}  // namespace espalier::pki
