// Certificates, signing requests, lists of revoked certificates, keys and identities, as texts or as the DER in them.
#include <openssl/pem.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "common/base/printable.h"
#include "common/pki/authority.h"
#include "common/pki/certificate.h"
#include "common/pki/key.h"
#include "common/pki/openssl.h"
#include "common/pki/revocations.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

using espalier::fuzz::Input;
using espalier::fuzz::Require;
namespace base = espalier::base;
namespace pki = espalier::pki;

absl::Time Now() { return absl::FromUnixSeconds(1'800'000'000); }

struct Fixture {
  pki::AuthorityFiles root = pki::NewRoot(Now(), absl::Hours(1'000));
  pki::AuthorityFiles workers = pki::NewWorkerAuthority(root, Now(), absl::Hours(500)).value();
  pki::Authority authority = pki::Authority::Load(workers).value();
  pki::KeyPtr key = pki::ReadKey(workers.key).value();
  pki::CertificatePtr certificate = pki::FirstCertificate(workers.certificate, "one").value();
};
const Fixture& Made() {
  static const auto& made = *new Fixture;
  return made;
}

std::string AsPem(const char* type, std::string_view bytes) {
  const pki::Quiet quiet;
  const pki::BioPtr bio = pki::Writer();
  PEM_write_bio(bio.get(), type, "", reinterpret_cast<const unsigned char*>(bytes.data()),
                static_cast<long>(bytes.size()));
  return pki::Written(*bio);
}

void ReadCertificate(const std::string& text) {
  const auto certificate = pki::ReadCertificate(text);
  const auto parts = pki::SplitCertificates(text);
  Require(pki::FingerprintOf(text).ok() == certificate.ok(), "what is read has a fingerprint");
  if (!certificate.ok()) return;
  Require(!parts.empty(), "what is read can be split");
  Require(pki::FingerprintOf(parts[0]).value() == pki::FingerprintOf(text).value(),
          "the first part is the first certificate");
  for (const std::string& shown : {certificate->subject, certificate->issuer}) {
    Require(base::Printable(shown) == shown, "names are printable");
  }
  Require(certificate->serial.find_first_not_of("-0123456789abcdef") == std::string::npos,
          "a serial number is hexadecimal");
  if (certificate->identity) {
    Require(pki::ParseUri(pki::UriOf(*certificate->identity)) == certificate->identity,
            "an identity has a URI");
  }
  (void)pki::Authority::Load({text, Made().workers.key}).ok();
}

// A request as it is, or signed anew with a key that fits, which keeps what else is in it.
void SignRequest(std::string_view bytes, bool fitting) {
  std::string text(bytes);
  if (fitting) {
    const auto* next = reinterpret_cast<const unsigned char*>(bytes.data());
    const pki::Quiet quiet;
    const pki::OpenSsl<X509_REQ, X509_REQ_free> request(
        d2i_X509_REQ(nullptr, &next, static_cast<long>(bytes.size())));
    if (request == nullptr) return;
    X509_REQ_set_pubkey(request.get(), Made().key.get());
    if (X509_REQ_sign(request.get(), Made().key.get(), EVP_sha256()) <= 0) return;
    const pki::BioPtr bio = pki::Writer();
    PEM_write_bio_X509_REQ(bio.get(), request.get());
    text = pki::Written(*bio);
  }
  const pki::Identity identity{pki::Role::kWorker, "edge-1"};
  const auto made =
      Made().authority.Sign({.identity = identity, .now = Now(), .lifetime = absl::Hours(1)}, text);
  if (!made.ok()) return;
  const auto certificate = pki::ReadCertificate(*made);
  Require(certificate.ok(), "what is signed can be read");
  Require(certificate->identity == identity && certificate->hosts.empty() &&
              !certificate->is_authority && certificate->subject == "CN = edge-1",
          "a request has no say in the names");
}

// A list as it is, or signed anew by an authority that is trusted.
void ReadLists(std::string_view bytes, bool fitting) {
  std::string text(bytes);
  if (fitting) {
    const auto* next = reinterpret_cast<const unsigned char*>(bytes.data());
    const pki::Quiet quiet;
    const pki::OpenSsl<X509_CRL, X509_CRL_free> list(
        d2i_X509_CRL(nullptr, &next, static_cast<long>(bytes.size())));
    if (list == nullptr) return;
    X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(Made().certificate.get()));
    if (X509_CRL_sign(list.get(), Made().key.get(), EVP_sha256()) <= 0) return;
    const pki::BioPtr bio = pki::Writer();
    PEM_write_bio_X509_CRL(bio.get(), list.get());
    text = pki::Written(*bio);
  }
  const auto revocations = pki::Revocations::Parse(text, Made().workers.certificate);
  if (!revocations.ok()) return;
  const auto twice = pki::Revocations::Parse(text + "\n" + text, Made().workers.certificate);
  Require(twice.ok() && twice->size() == revocations->size(),
          "a list that comes twice counts once");
  (void)revocations->Contains(pki::ReadCertificate(Made().workers.certificate).value());
}

void ReadKeys(const std::string& text) {
  // A key that is encrypted may say how long its passphrase is to be stretched for.
  if (pki::IsEncrypted(text)) return;
  const auto request = pki::NewSigningRequest(text);
  const auto plain = pki::DecryptKey(text, "secret");
  if (plain.ok()) Require(pki::ReadKey(*plain).ok(), "a key that was read can be read again");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  const int kind = input.Choice(5);
  const bool der = input.Choice(2) == 1;
  const std::string_view rest = input.Rest();
  switch (kind) {
    case 0:
      ReadCertificate(der ? AsPem(PEM_STRING_X509, rest) : std::string(rest));
      break;
    case 1:
      SignRequest(rest, der);
      break;
    case 2:
      ReadLists(rest, der);
      break;
    case 3:
      ReadKeys(der ? AsPem(PEM_STRING_PKCS8INF, rest) : std::string(rest));
      break;
    default: {
      const auto identity = pki::ParseUri(rest);
      if (identity) Require(pki::UriOf(*identity) == rest, "an identity has one URI");
    }
  }
  Require(ERR_peek_error() == 0, "no error is left for others to find");
  return 0;
}
