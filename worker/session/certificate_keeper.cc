#include "worker/session/certificate_keeper.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/log/log.h"

namespace espalier::worker::session {
namespace {

constexpr absl::Duration kFirstBackoff = absl::Milliseconds(500);
constexpr absl::Duration kLastBackoff = absl::Seconds(15);
constexpr absl::Duration kBetweenTries = absl::Minutes(1);
// Nobody is asked more often, however short a certificate is.
constexpr absl::Duration kLeastWait = absl::Seconds(1);

}  // namespace

absl::StatusOr<CertificateKeeper::Certificate> CertificateKeeper::AskEach(
    const std::function<absl::StatusOr<Certificate>(const rpc::ChannelOptions&)>& ask) const {
  absl::StatusOr<Certificate> last = absl::UnavailableError("no coordinator was asked");
  for (const rpc::ChannelOptions& coordinator : options_.coordinators) {
    last = ask(coordinator);
    if (last.ok() || !rpc::MayJoinLater(last.status())) break;
  }
  return last;
}

absl::StatusOr<CertificateKeeper::Certificate> CertificateKeeper::Join(const std::string& id) {
  return AskEach([&](const rpc::ChannelOptions& coordinator) {
    return rpc::JoinCluster(coordinator, options_.token_file, id, options_.path);
  });
}

absl::StatusOr<CertificateKeeper::Certificate> CertificateKeeper::Renew() {
  absl::StatusOr<Certificate> renewed = AskEach([&](const rpc::ChannelOptions& coordinator) {
    return rpc::RenewWorkerCertificate(coordinator, options_.path);
  });
  const bool ended = absl::Now() >= certificate_.not_after;
  if (renewed.ok() || !ended || options_.token_file.empty()) return renewed;
  return Join(certificate_.worker_id);
}

void CertificateKeeper::Take(const Certificate& certificate) {
  certificate_ = certificate;
  metrics_.Set(metrics::Metric::kCertificateExpiry,
               absl::ToDoubleSeconds(certificate.not_after - absl::UnixEpoch()), "worker");
}

absl::StatusOr<std::string> CertificateKeeper::Obtain(const std::stop_token& stop) {
  std::string id = options_.worker_id;
  if (access(options_.path.c_str(), F_OK) == 0) {
    const auto kept = rpc::ReadWorkerCertificate(options_.path);
    if (kept.ok()) {
      if (!id.empty() && kept->worker_id != id) {
        return base::InvalidArgument(
            "WORKER_ID_MISMATCH", "expected the certificate of '" + id + "' at '" + options_.path +
                                      "', found that of '" + kept->worker_id +
                                      "'; leave --id out, or give this worker another --tls-dir");
      }
      Take(*kept);
      return kept->worker_id;
    }
    if (options_.token_file.empty()) return kept.status();
    log::Warning("certificate_not_usable", {{"message", base::MessageOf(kept.status())}});
  }
  for (absl::Duration backoff = kFirstBackoff;; backoff = std::min(backoff * 2, kLastBackoff)) {
    const auto joined = Join(id);
    if (joined.ok()) {
      log::Info("joined", {{"worker", joined->worker_id}});
      Take(*joined);
      return joined->worker_id;
    }
    if (!rpc::MayJoinLater(joined.status())) return joined.status();
    log::Warning("not_joined", {{"message", base::MessageOf(joined.status())},
                                {"retry_in", absl::FormatDuration(backoff)}});
    if (!base::SleepUnlessStopped(absl::ToChronoNanoseconds(backoff), stop)) {
      return absl::CancelledError("the worker was told to end");
    }
  }
}

void CertificateKeeper::Watch(std::function<void()> renewed) {
  thread_ = std::jthread(
      [this, renewed = std::move(renewed)](const std::stop_token& stop) { Run(stop, renewed); });
}

void CertificateKeeper::Run(const std::stop_token& stop, const std::function<void()>& renewed) {
  absl::Time next = certificate_.renew_at;
  for (;;) {
    const absl::Duration wait = std::max(next - absl::Now(), kLeastWait);
    if (!base::SleepUnlessStopped(absl::ToChronoNanoseconds(wait), stop)) return;
    const auto certificate = Renew();
    if (certificate.ok()) {
      log::Info("certificate_renewed",
                {{"worker", certificate->worker_id},
                 {"not_after", absl::FormatTime(certificate->not_after, absl::UTCTimeZone())}});
      Take(*certificate);
      next = certificate->renew_at;
      renewed();
      continue;
    }
    const absl::Duration left = certificate_.not_after - absl::Now();
    log::Warning("certificate_not_renewed", {{"message", base::MessageOf(certificate.status())},
                                             {"ends_in", absl::FormatDuration(left)}});
    // Ten more tries while it is good, if there is time for them.
    next = absl::Now() + std::clamp(left / 10, kLeastWait, kBetweenTries);
  }
}

}  // namespace espalier::worker::session
