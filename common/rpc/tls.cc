#include "common/rpc/tls.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <string_view>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "common/base/printable.h"
#include "common/base/status.h"

namespace espalier::rpc {
namespace {

using Bio = OpenSsl<BIO, BIO_free_all>;
using Certificate = OpenSsl<X509, X509_free>;
using Key = OpenSsl<EVP_PKEY, EVP_PKEY_free>;

std::string Quoted(const std::string& path) { return "'" + base::Printable(path) + "'"; }

absl::Status Unreadable(const std::string& path, const std::string& expected,
                        const std::string& found) {
  return base::InvalidArgument("TLS_FILE_UNREADABLE",
                               "expected " + expected + " at " + Quoted(path) + ", found " + found);
}

Bio Memory(const std::string& text) {
  return Bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
}

Certificate FirstCertificate(const std::string& pem) {
  Certificate certificate(PEM_read_bio_X509(Memory(pem).get(), nullptr, nullptr, nullptr));
  ERR_clear_error();
  return certificate;
}

// What is known of a passphrase while OpenSSL reads a key.
struct Passphrase {
  std::string text;  // "": none is known
  bool asked = false;
};

// Without it OpenSSL would ask the terminal.
int GivePassphrase(char* buffer, int size, int, void* known) {
  auto& passphrase = *static_cast<Passphrase*>(known);
  passphrase.asked = true;
  if (passphrase.text.empty() || passphrase.text.size() > static_cast<size_t>(size)) return -1;
  std::memcpy(buffer, passphrase.text.data(), passphrase.text.size());
  return static_cast<int>(passphrase.text.size());
}

absl::Status CheckDates(const std::string& path, const X509* certificate) {
  const bool early = X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0;
  const bool late = X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0;
  if (!early && !late) return absl::OkStatus();
  const std::string now =
      absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", absl::Now(), absl::UTCTimeZone());
  const std::string found =
      early ? "one that is valid from " + DateOf(X509_get0_notBefore(certificate)) + " on"
            : "one that expired on " + DateOf(X509_get0_notAfter(certificate));
  return base::InvalidArgument("TLS_CERT_OUT_OF_DATE",
                               "expected a certificate that is valid now (" + now + ") at " +
                                   Quoted(path) + ", found " + found +
                                   "; issue a new one, or check this machine's clock");
}

absl::Status KeyEncrypted(const std::string& path, const std::string& passphrase_path) {
  if (!passphrase_path.empty()) {
    return base::InvalidArgument(
        "TLS_KEY_ENCRYPTED", "expected the passphrase of the private key " + Quoted(path) + " in " +
                                 Quoted(passphrase_path) + ", found one that does not decrypt it");
  }
  return base::InvalidArgument("TLS_KEY_ENCRYPTED",
                               "expected a private key without a passphrase at " + Quoted(path) +
                                   ", found an encrypted one; name a file with its passphrase "
                                   "(--tls-key-passphrase-file, for "
                                   "espalier --key-passphrase-file), or decrypt it into a file "
                                   "that only this user may read: "
                                   "openssl pkey -in " +
                                   base::Printable(path) + " -out decrypted.key");
}

absl::StatusOr<Key> ParseKey(const std::string& path, const std::string& pem,
                             const std::string& passphrase_path) {
  Passphrase passphrase;
  if (!passphrase_path.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(passphrase.text,
                              ReadSecret(passphrase_path, "the passphrase of a private key"));
  }
  Key key(PEM_read_bio_PrivateKey(Memory(pem).get(), nullptr, GivePassphrase, &passphrase));
  ERR_clear_error();
  if (key != nullptr) return key;
  if (passphrase.asked || absl::StrContains(pem, "ENCRYPTED")) {
    return KeyEncrypted(path, passphrase_path);
  }
  return Unreadable(path, "a private key (PEM)",
                    absl::StrContains(pem, "PRIVATE KEY-----")
                        ? "one that cannot be read; openssl pkey -in FILE -noout says why"
                        : "a certificate");
}

std::string TextOf(EVP_PKEY* key) {
  const Bio bio(BIO_new(BIO_s_mem()));
  PEM_write_bio_PKCS8PrivateKey(bio.get(), key, nullptr, nullptr, 0, nullptr, nullptr);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  std::string pem(text, static_cast<size_t>(size));
  OPENSSL_cleanse(text, static_cast<size_t>(size));
  return pem;
}

}  // namespace

absl::StatusOr<std::string> ReadPem(const std::string& path, const std::string& expected,
                                    size_t max_bytes) {
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text;
  if (file) {
    text.resize(max_bytes + 1);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
  }
  if (text.empty()) {
    const std::string why = errno != 0 ? std::strerror(errno) : "an empty file";
    return Unreadable(path, expected, why + "; check the path and its permissions");
  }
  if (text.size() > max_bytes) {
    return Unreadable(path, expected, "more than " + std::to_string(max_bytes >> 20) + " MiB");
  }
  if (!absl::StrContains(text, "-----BEGIN ")) {
    // DER begins with a sequence.
    return Unreadable(path, expected,
                      text[0] == 0x30 ? "DER; convert it with openssl x509 (or pkey) -inform der"
                                      : "no PEM text (-----BEGIN …)");
  }
  return text;
}

absl::StatusOr<std::string> ReadAuthorities(const std::string& path) {
  const std::string expected = "the certificate of an authority (PEM)";
  ESPALIER_ASSIGN_OR_RETURN(std::string pem, ReadPem(path, expected));
  if (FirstCertificate(pem) == nullptr) {
    return Unreadable(path, expected,
                      absl::StrContains(pem, "PRIVATE KEY-----") ? "a private key" : "none in it");
  }
  return pem;
}

absl::StatusOr<KeyPair> ReadKeyPair(const std::string& certificate_path,
                                    const std::string& key_path,
                                    const std::string& passphrase_path) {
  const std::string expected = "a certificate (PEM)";
  KeyPair pair;
  ESPALIER_ASSIGN_OR_RETURN(pair.certificate, ReadPem(certificate_path, expected));
  ESPALIER_ASSIGN_OR_RETURN(pair.key, ReadPem(key_path, "a private key (PEM)"));
  const Certificate certificate = FirstCertificate(pair.certificate);
  if (certificate == nullptr) {
    return Unreadable(
        certificate_path, expected,
        absl::StrContains(pair.certificate, "PRIVATE KEY-----") ? "a private key" : "none in it");
  }
  ESPALIER_ASSIGN_OR_RETURN(const Key key, ParseKey(key_path, pair.key, passphrase_path));
  const bool fits = X509_check_private_key(certificate.get(), key.get()) == 1;
  ERR_clear_error();
  if (!fits) {
    return base::InvalidArgument("TLS_KEY_MISMATCH",
                                 "expected the private key of the certificate " +
                                     Quoted(certificate_path) + " (" +
                                     NameOf(X509_get_subject_name(certificate.get())) + ") at " +
                                     Quoted(key_path) + ", found a key that does not belong to it");
  }
  ESPALIER_RETURN_IF_ERROR(CheckDates(certificate_path, certificate.get()));
  pair.key = TextOf(key.get());
  return pair;
}

absl::StatusOr<std::string> ReadSecret(const std::string& path, const std::string& what) {
  constexpr size_t kMaxBytes = 4096;
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  std::string text(kMaxBytes + 1, '\0');
  if (file) file.read(text.data(), static_cast<std::streamsize>(text.size()));
  const std::string why = errno == 0 ? "" : std::strerror(errno);
  text.resize(static_cast<size_t>(std::max<std::streamsize>(file.gcount(), 0)));
  const bool too_long = text.size() > kMaxBytes;
  text.resize(std::min(text.find('\n'), text.size()));
  const absl::string_view secret = absl::StripAsciiWhitespace(text);
  if (!secret.empty() && !too_long) return std::string(secret);
  return base::InvalidArgument("SECRET_UNREADABLE", "expected " + what + " on the first line of " +
                                                        Quoted(path) + ", found " +
                                                        (too_long      ? "more than 4 KiB"
                                                         : why.empty() ? "none"
                                                                       : why) +
                                                        "; check the path and its permissions");
}

std::string PathIn(const std::string& folder, const char* name) {
  std::string path = folder;
  path += '/';
  path += name;
  return access(path.c_str(), F_OK) == 0 ? path : "";
}

void FillFromFolder(const std::string& folder, std::string& authority, std::string& certificate,
                    std::string& key) {
  if (authority.empty()) authority = PathIn(folder, "ca.pem");
  if (!certificate.empty() || !key.empty()) return;
  if (const std::string both = PathIn(folder, "worker.pem"); !both.empty()) {
    certificate = key = both;
    return;
  }
  certificate = PathIn(folder, "cert.pem");
  key = PathIn(folder, "key.pem");
}

std::string NameOf(const X509_NAME* name) {
  const Bio bio(BIO_new(BIO_s_mem()));
  X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_ONELINE & ~ASN1_STRFLGS_ESC_MSB);
  char* text = nullptr;
  const long size = BIO_get_mem_data(bio.get(), &text);
  constexpr size_t kMaxBytes = 200;
  return base::PrintablePrefix(std::string_view(text, static_cast<size_t>(size)), kMaxBytes);
}

std::string DateOf(const ASN1_TIME* time) {
  tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1) return "an unreadable date";
  return absl::FormatTime("%Y-%m-%d %H:%M:%S UTC", absl::FromTM(parts, absl::UTCTimeZone()),
                          absl::UTCTimeZone());
}

std::string HostsOf(X509* certificate) {
  const OpenSsl<GENERAL_NAMES, GENERAL_NAMES_free> names(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  std::vector<std::string> hosts;
  for (int i = 0; names != nullptr && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(names.get(), i);
    if (name->type == GEN_DNS) {
      const auto* text = reinterpret_cast<const char*>(ASN1_STRING_get0_data(name->d.dNSName));
      hosts.emplace_back(text, static_cast<size_t>(ASN1_STRING_length(name->d.dNSName)));
    } else if (name->type == GEN_IPADD) {
      const int bytes = ASN1_STRING_length(name->d.iPAddress);
      if (bytes != 4 && bytes != 16) continue;
      char text[INET6_ADDRSTRLEN] = "";
      inet_ntop(bytes == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(name->d.iPAddress), text,
                sizeof(text));
      hosts.emplace_back(text);
    }
  }
  constexpr size_t kMaxBytes = 400;
  return hosts.empty() ? "no host (it has no subjectAltName)"
                       : base::PrintablePrefix(absl::StrJoin(hosts, ", "), kMaxBytes);
}

}  // namespace espalier::rpc
