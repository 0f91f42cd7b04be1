#include "server/security.h"

#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigtimedwait is POSIX

#include <ctime>
#include <utility>

#include "absl/time/time.h"
#include "common/base/status.h"
#include "common/log/log.h"
#include "common/rpc/tls.h"

namespace espalier::server {
namespace {

constexpr absl::Duration kBetweenLooks = absl::Seconds(5);
// So often the thread looks whether it is to end.
constexpr timespec kWait{0, 200'000'000};
constexpr absl::Duration kBetweenWarnings = absl::Hours(24);
// A certificate of which less than this is left is told of; of a short one, a tenth of its life.
constexpr absl::Duration kSoon = absl::Hours(24 * 30);

void TakeFrom(const std::string& folder, const char* name, std::string& path) {
  if (path.empty()) path = rpc::PathIn(folder, name);
}

}  // namespace

absl::Status CompleteTlsFlags(Flags& flags) {
  if (!flags.tls_dir.empty()) {
    rpc::FillFromFolder(flags.tls_dir, flags.tls_client_ca, flags.tls_cert, flags.tls_key);
    TakeFrom(flags.tls_dir, "crl.pem", flags.tls_crl);
    TakeFrom(flags.tls_dir, "workers.pem", flags.tls_worker_ca_cert);
    TakeFrom(flags.tls_dir, "workers.key", flags.tls_worker_ca_key);
    if (flags.tls_cert.empty() || flags.tls_client_ca.empty()) {
      return base::InvalidArgument(
          "TLS_CONFIG_INVALID",
          "expected ca.pem, cert.pem and key.pem in the folder of --tls-dir '" + flags.tls_dir +
              "', found that not all are there; `espalier cert init` makes such a folder");
    }
  }
  if (flags.tls_worker_ca_cert.empty() == flags.tls_worker_ca_key.empty()) {
    return absl::OkStatus();
  }
  return base::InvalidArgument("TLS_CONFIG_INVALID",
                               "expected both --tls-worker-ca-cert and --tls-worker-ca-key, found "
                               "only one of them");
}

absl::StatusOr<std::unique_ptr<Security>> Security::Open(const Flags& flags,
                                                         const base::Clock& clock,
                                                         metrics::Metrics& metrics) {
  std::unique_ptr<Security> security(new Security(clock, metrics));
  const bool any = !flags.tls_cert.empty() || !flags.tls_key.empty() ||
                   !flags.tls_client_ca.empty() || !flags.tls_crl.empty();
  if (!any) return security;
  ESPALIER_ASSIGN_OR_RETURN(security->tls_,
                            rpc::ServerTls::Open({.certificate = flags.tls_cert,
                                                  .key = flags.tls_key,
                                                  .passphrase = flags.tls_key_passphrase_file,
                                                  .client_authority = flags.tls_client_ca,
                                                  .revocations = flags.tls_crl,
                                                  .worker_authority = flags.tls_worker_ca_cert}));
  if (!flags.tls_worker_ca_cert.empty()) {
    auto pair = rpc::ReadKeyPair(flags.tls_worker_ca_cert, flags.tls_worker_ca_key,
                                 flags.tls_key_passphrase_file);
    if (!pair.ok()) {
      return base::Annotate(pair.status(), "--tls-worker-ca-cert and --tls-worker-ca-key");
    }
    ESPALIER_ASSIGN_OR_RETURN(security->workers_,
                              pki::Authority::Load({pair->certificate, pair->key}));
  }
  security->LookAtDates();
  return security;
}

absl::Status Security::OpenAudit(const std::string& folder) {
  ESPALIER_ASSIGN_OR_RETURN(audit_,
                            audit::AuditLog::Open(io::PosixFileSystem(), folder, clock_, metrics_));
  return absl::OkStatus();
}

access::Gate Security::MakeGate(const access::Registry& registry) {
  if (tls_ == nullptr || !tls_->knows_clients()) return access::Gate(clock_, registry);
  return access::Gate(clock_, registry, [tls = tls_.get()](const pki::Certificate& certificate) {
    return tls->IsRevoked(certificate);
  });
}

void Security::Watch() {
  watcher_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

void Security::Run(const std::stop_token& stop) {
  sigset_t hangup;
  sigemptyset(&hangup);
  sigaddset(&hangup, SIGHUP);
  absl::Duration looked = clock_.Elapsed();
  while (!stop.stop_requested()) {
    const bool asked = sigtimedwait(&hangup, nullptr, &kWait) == SIGHUP;
    if (!asked && clock_.Elapsed() - looked < kBetweenLooks) continue;
    looked = clock_.Elapsed();
    Reload(asked);
    if (asked) hangup_ = true;
  }
}

void Security::Reload(bool asked) {
  if (tls_ != nullptr) {
    const absl::StatusOr<bool> read = tls_->Reload();
    const std::string trouble = read.ok() ? "" : base::MessageOf(read.status());
    // A pair of files that is being replaced is whole at the next look.
    if (!read.ok() && (asked || trouble != trouble_)) {
      log::Error("certificates_not_read", {{"reason", base::ReasonOf(read.status())},
                                           {"message", trouble + "; the former stay in use"}});
    }
    trouble_ = trouble;
    if (read.ok() && (*read || asked)) {
      log::Info("certificates_read",
                {{"changed", *read},
                 {"not_after", absl::FormatTime(tls_->not_after(), absl::UTCTimeZone())}});
    }
  }
  LookAtDates();
}

void Security::LookAtDates() {
  if (tls_ == nullptr) return;
  using metrics::Metric;
  struct Date {
    const char* role;
    absl::Time end;
    const char* advice;
  };
  const Date dates[] = {
      {"coordinator", tls_->not_after(), "renew it with `espalier cert renew coordinator`"},
      {"worker_authority", workers_.has_value() ? workers_->not_after() : absl::InfiniteFuture(),
       "make another one with `espalier cert init`"},
      {"revocations", tls_->next_update(), "renew the list with `espalier cert renew --crl`"}};
  const bool warn = clock_.Elapsed() - warned_ >= kBetweenWarnings;
  for (const Date& date : dates) {
    if (date.end == absl::InfiniteFuture()) continue;
    metrics_.Set(Metric::kCertificateExpiry, absl::ToDoubleSeconds(date.end - absl::UnixEpoch()),
                 date.role);
    const absl::Duration left = date.end - clock_.Wall();
    // Lists are made for weeks.
    const absl::Duration soon =
        std::string_view(date.role) == "revocations" ? absl::Hours(48) : kSoon;
    if (!warn || left > soon) continue;
    warned_ = clock_.Elapsed();
    log::Warning("certificate_ends", {{"role", date.role},
                                      {"end", absl::FormatTime(date.end, absl::UTCTimeZone())},
                                      {"message", date.advice}});
  }
}

}  // namespace espalier::server
