#include "common/pki/authority.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "common/pki/new_certificate.h"
#include "tests/unit/common/pki/chain.h"

namespace espalier::pki {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// What is said of a certificate whose extended key usage is for something else.
std::string OtherPurpose() { return X509_verify_cert_error_string(X509_V_ERR_INVALID_PURPOSE); }

TEST(AuthorityTest, RootsAreValidForThemselvesAndDiffer) {
  const AuthorityFiles root = NewRoot(Now(), kYear);
  const Certificate certificate = ReadCertificate(root.certificate).value();
  EXPECT_THAT(certificate.subject, testing::StartsWith("CN = Espalier root "));
  EXPECT_EQ(certificate.subject, certificate.issuer);
  EXPECT_TRUE(certificate.is_authority);
  EXPECT_EQ(certificate.not_before, Now() - absl::Minutes(5));
  EXPECT_EQ(certificate.not_after, Now() + kYear);
  EXPECT_EQ(certificate.identity, std::nullopt);
  const Certificate other = ReadCertificate(NewRoot(Now(), kYear).certificate).value();
  EXPECT_NE(certificate.subject, other.subject);
  EXPECT_NE(certificate.serial, other.serial);
}

TEST(AuthorityTest, CoordinatorServesItsHostsAndIsAClientToo) {
  const std::string pem =
      Issued(Made().root, Of(Role::kCoordinator, "coordinator",
                             {"c.example.org", "*.pods.example.org", "10.0.0.7", "::1"}));
  EXPECT_EQ(Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_SERVER), "ok");
  EXPECT_EQ(Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_CLIENT), "ok");
  const Certificate certificate = ReadCertificate(pem).value();
  EXPECT_EQ(certificate.subject, "CN = coordinator");
  EXPECT_EQ(certificate.identity, (Identity{Role::kCoordinator, "coordinator"}));
  EXPECT_THAT(certificate.hosts,
              ElementsAre("c.example.org", "*.pods.example.org", "10.0.0.7", "::1"));
  EXPECT_FALSE(certificate.is_authority);
  const CertificatePtr x509 = Decoded(pem);
  EXPECT_EQ(X509_check_host(x509.get(), "c.example.org", 0, 0, nullptr), 1);
  EXPECT_EQ(X509_check_host(x509.get(), "a.pods.example.org", 0, 0, nullptr), 1);
  EXPECT_EQ(X509_check_host(x509.get(), "d.example.org", 0, 0, nullptr), 0);
  EXPECT_EQ(X509_check_ip_asc(x509.get(), "10.0.0.7", 0), 1);
  EXPECT_EQ(X509_check_ip_asc(x509.get(), "::1", 0), 1);
  EXPECT_EQ(SplitCertificates(pem).size(), 1u);
}

TEST(AuthorityTest, UserWithoutHostsIsAClientOnly) {
  const std::string pem = Issued(Made().root, Of(Role::kAdmin, "ada"));
  EXPECT_EQ(Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_CLIENT), "ok");
  EXPECT_EQ(Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_SERVER), OtherPurpose());
  const Certificate certificate = ReadCertificate(pem).value();
  EXPECT_EQ(certificate.issuer, ReadCertificate(Made().root.certificate)->subject);
  EXPECT_EQ(certificate.issuer_key.size(), 40u);
}

TEST(AuthorityTest, WorkerOfTheWorkerAuthorityIsAccepted) {
  const std::string pem = Issued(Made().workers, Of(Role::kWorker, "edge-1"));
  EXPECT_EQ(SplitCertificates(pem).size(), 2u);
  EXPECT_EQ(Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_CLIENT), "ok");
  EXPECT_EQ(Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_SERVER), OtherPurpose());
  const std::string other = NewRoot(Now(), kYear).certificate;
  EXPECT_NE(Verified(pem, other, X509_PURPOSE_SSL_CLIENT), "ok");
}

TEST(AuthorityTest, OtherRolesForgedWithTheWorkerAuthorityAreRefused) {
  for (const Role role : kRoles) {
    const std::string pem = Issued(Made().workers, Of(role, "mallory"));
    EXPECT_EQ(Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_CLIENT),
              role == Role::kWorker ? "ok" : "permitted subtree violation")
        << NameOf(role);
  }
}

TEST(AuthorityTest, ServersForgedWithTheWorkerAuthorityAreRefused) {
  for (const char* host : {"coordinator.example.org", "localhost", "10.0.0.7", "::1"}) {
    const std::string pem = Issued(Made().workers, Of(Role::kWorker, "mallory", {host}));
    EXPECT_NE(Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_SERVER), "ok") << host;
    EXPECT_EQ(Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_CLIENT),
              "excluded subtree violation")
        << host;
  }
}

TEST(AuthorityTest, NamesBesideAWorkersOwnAreRefused) {
  const CertificatePtr issuer = Decoded(Made().workers.certificate);
  const KeyPtr signer = ReadKey(Made().workers.key).value();
  const KeyPtr key = ReadKey(NewKey()).value();
  // Whatever a thief writes into certificates that he signs with the stolen key.
  for (const char* names :
       {"URI:espalier://worker/a,URI:espalier://admin/a", "URI:espalier://worker.admin/a",
        "URI:espalier://admin@worker/a,URI:espalier://admin/a", "URI:espalier:admin",
        "URI:espalier://worker/a,email:a@example.org", "URI:espalier://worker/a,DNS:a",
        "URI:espalier://worker/a,IP:10.0.0.1"}) {
    NewCertificate forged("a.example.org", *key, Now(), Now() + kYear);
    forged.SetIssuer(issuer.get());
    forged.Extend(NID_ext_key_usage, "clientAuth,serverAuth");
    forged.Extend(NID_subject_alt_name, names);
    const std::string pem = forged.Sign(*signer) + Made().workers.certificate;
    for (const int purpose : {X509_PURPOSE_SSL_CLIENT, X509_PURPOSE_SSL_SERVER}) {
      EXPECT_NE(Verified(pem, Made().root.certificate, purpose), "ok") << names;
    }
  }
}

TEST(AuthorityTest, WorkerAuthorityMakesNoFurtherAuthority) {
  const CertificatePtr issuer = Decoded(Made().workers.certificate);
  const KeyPtr signer = ReadKey(Made().workers.key).value();
  AuthorityFiles below{"", NewKey()};
  const KeyPtr key = ReadKey(below.key).value();
  NewCertificate forged("Espalier workers", *key, Now(), Now() + kYear);
  forged.SetIssuer(issuer.get());
  forged.Extend(NID_basic_constraints, "critical,CA:TRUE");
  forged.Extend(NID_key_usage, "critical,keyCertSign");
  forged.Extend(NID_subject_key_identifier, "hash");
  below.certificate = forged.Sign(*signer) + Made().workers.certificate;
  const std::string pem = Issued(below, Of(Role::kWorker, "mallory"));
  EXPECT_EQ(SplitCertificates(pem).size(), 3u);
  EXPECT_EQ(Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_CLIENT),
            "path length constraint exceeded");
}

TEST(AuthorityTest, RenewedWorkerAuthorityStandsForWhatTheFormerSigned) {
  const absl::Time later = Now() + 6 * kYear;
  Subject subject = Of(Role::kWorker, "edge-1");
  const std::string before = Issued(Made().workers, subject);
  const AuthorityFiles renewed =
      RenewWorkerAuthority(Made().root, Made().workers, later, kYear).value();
  EXPECT_EQ(renewed.key, Made().workers.key);
  EXPECT_EQ(ReadCertificate(renewed.certificate)->subject,
            ReadCertificate(Made().workers.certificate)->subject);
  EXPECT_EQ(Verified(SplitCertificates(before)[0] + renewed.certificate, Made().root.certificate,
                     X509_PURPOSE_SSL_CLIENT),
            "certificate is not yet valid");
  subject.now = later;
  const std::string after = Issued(renewed, subject);
  EXPECT_EQ(Verified(after, Made().root.certificate, X509_PURPOSE_SSL_CLIENT, later), "ok");
  subject.identity = {Role::kAdmin, "mallory"};
  const std::string forged = Issued(renewed, subject);
  EXPECT_EQ(Verified(forged, Made().root.certificate, X509_PURPOSE_SSL_CLIENT, later),
            "permitted subtree violation");
  EXPECT_EQ(
      base::ReasonOf(RenewWorkerAuthority(NewRoot(Now(), kYear), {"", ""}, later, kYear).status()),
      "TLS_FILE_UNREADABLE");
}

TEST(AuthorityTest, CertificatesEndWithTheirAuthority) {
  Subject subject = Of(Role::kViewer, "vera");
  subject.lifetime = 100 * kYear;
  const Certificate user = ReadCertificate(Issued(Made().root, subject)).value();
  EXPECT_EQ(user.not_after, Now() + 10 * kYear);
  const AuthorityFiles workers = NewWorkerAuthority(Made().root, Now(), 100 * kYear).value();
  EXPECT_EQ(Authority::Load(workers)->not_after(), Now() + 10 * kYear);
  subject.now = Now() + 11 * kYear;
  EXPECT_EQ(base::ReasonOf(Authority::Load(Made().root)->Issue(subject, NewKey()).status()),
            "TLS_CERT_OUT_OF_DATE");
}

TEST(AuthorityTest, ExpiredCertificatesAreRefused) {
  const std::string pem = Issued(Made().root, Of(Role::kAdmin, "ada"));
  const auto at = [&](absl::Time now) {
    return Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_CLIENT, now);
  };
  EXPECT_EQ(at(Now() - absl::Minutes(4)), "ok");
  EXPECT_EQ(at(Now() - absl::Minutes(6)), "certificate is not yet valid");
  EXPECT_EQ(at(Now() + kYear + absl::Seconds(1)), "certificate has expired");
}

TEST(AuthorityTest, NamesThatAreNoneAreRefused) {
  const Authority root = Authority::Load(Made().root).value();
  for (const std::string& name :
       {std::string(), std::string("a\0b", 3), std::string("Ada"), std::string("a/b"),
        std::string("a b"), std::string("ä"), std::string("a\n"), std::string(64, 'a'),
        std::string("../a"), std::string("-a"), std::string("1a")}) {
    const auto made = root.Issue(Of(Role::kAdmin, name), NewKey());
    EXPECT_EQ(base::ReasonOf(made.status()), "IDENTITY_INVALID") << name;
    EXPECT_EQ(base::MessageOf(made.status()).find('\n'), std::string::npos);
  }
}

TEST(AuthorityTest, HostsThatAreNoneAreRefused) {
  const Authority root = Authority::Load(Made().root).value();
  const auto reason = [&root](std::vector<std::string> hosts) {
    return base::ReasonOf(
        root.Issue(Of(Role::kCoordinator, "c", std::move(hosts)), NewKey()).status());
  };
  for (const std::string& host : {std::string(),
                                  std::string("a..b"),
                                  std::string("-a"),
                                  std::string("a-"),
                                  std::string("host:7070"),
                                  std::string("https://host"),
                                  std::string("[::1]"),
                                  std::string("*"),
                                  std::string("*.com"),
                                  std::string("a.*.example.org"),
                                  std::string("a*.example.org"),
                                  std::string("10.0.0"),
                                  std::string("10.0.0.256"),
                                  std::string("1.2.3.4.5"),
                                  std::string("::1%eth0"),
                                  std::string("a\0.example.org", 14),
                                  std::string("10.0.0.1\0", 9),
                                  std::string("a b"),
                                  std::string("b\xc3\xbc.example.org"),
                                  std::string(64, 'a'),
                                  std::string("a,DNS:b"),
                                  std::string(254, 'a')}) {
    EXPECT_EQ(reason({host}), "HOST_INVALID") << host;
  }
  for (const char* host : {"a", "my_service", "xn--bcher-kva.example", "A.example", "3com.com",
                           "*.b.example", "0.0.0.0", "2001:db8::1", "::ffff:10.0.0.1"}) {
    EXPECT_EQ(reason({host}), "") << host;
  }
  EXPECT_EQ(reason(std::vector<std::string>(101, "a")), "HOST_INVALID");
}

TEST(AuthorityTest, FilesOfNoAuthorityAreRefused) {
  const std::string key = NewKey();
  const std::string user =
      Authority::Load(Made().root)->Issue(Of(Role::kAdmin, "ada"), key).value();
  const auto status = [](const AuthorityFiles& files) { return Authority::Load(files).status(); };
  EXPECT_EQ(base::ReasonOf(status({user, key})), "TLS_FILE_UNREADABLE");
  EXPECT_THAT(base::MessageOf(status({user, key})), HasSubstr("may not sign"));
  EXPECT_EQ(base::ReasonOf(status({Made().root.certificate, key})), "TLS_KEY_MISMATCH");
  EXPECT_EQ(base::ReasonOf(status({Made().root.key, key})), "TLS_FILE_UNREADABLE");
  EXPECT_EQ(base::ReasonOf(status({Made().root.certificate, ""})), "TLS_FILE_UNREADABLE");
  const std::string encrypted = EncryptKey(Made().root.key, "secret").value();
  EXPECT_EQ(base::ReasonOf(status({Made().root.certificate, encrypted})), "TLS_KEY_ENCRYPTED");
}

TEST(AuthorityTest, RevokedSerialsAreRefusedByOpenSsl) {
  const Authority root = Authority::Load(Made().root).value();
  const std::string good = Issued(Made().root, Of(Role::kAdmin, "ada"));
  const std::string bad = Issued(Made().root, Of(Role::kAdmin, "bob"));
  const std::string serial = ReadCertificate(bad)->serial;
  const std::string list = root.Revoke({serial, serial}, Now(), absl::Hours(24)).value();
  const auto verified = [&](const std::string& pem, absl::Time now = Now()) {
    return Verified(pem, Made().root.certificate, X509_PURPOSE_SSL_CLIENT, now, list);
  };
  EXPECT_EQ(verified(good), "ok");
  EXPECT_EQ(verified(bad), "certificate revoked");
  EXPECT_EQ(verified(good, Now() - absl::Minutes(4)), "ok");
  EXPECT_EQ(verified(good, Now() + absl::Hours(25)), "CRL has expired");
}

TEST(AuthorityTest, ListsAreNumberedByTime) {
  const Authority root = Authority::Load(Made().root).value();
  const auto number = [&root](absl::Time now) {
    const std::string pem = root.Revoke({}, now, absl::Hours(1)).value();
    const OpenSsl<X509_CRL, X509_CRL_free> list(
        PEM_read_bio_X509_CRL(Reader(pem).get(), nullptr, nullptr, nullptr));
    EXPECT_EQ(X509_CRL_get_version(list.get()), X509_CRL_VERSION_2);
    const IntegerPtr found(static_cast<ASN1_INTEGER*>(
        X509_CRL_get_ext_d2i(list.get(), NID_crl_number, nullptr, nullptr)));
    return ASN1_INTEGER_get(found.get());
  };
  EXPECT_LT(number(Now()), number(Now() + absl::Milliseconds(1)));
}

TEST(AuthorityTest, SerialsThatAreNoneAreRefused) {
  const Authority root = Authority::Load(Made().root).value();
  for (const std::string& serial :
       {std::string(), std::string("x"), std::string("-1"), std::string("ab:cd"), std::string("1 "),
        std::string(41, 'f'), std::string("1\0", 2)}) {
    EXPECT_EQ(base::ReasonOf(root.Revoke({serial}, Now(), absl::Hours(1)).status()),
              "SERIAL_INVALID")
        << serial;
  }
}

}  // namespace
}  // namespace espalier::pki
