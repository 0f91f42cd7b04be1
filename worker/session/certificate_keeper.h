// CertificateKeeper: sees to it that a worker that joins by itself has a certificate, for as long as it
// lives.
//
// At the start the certificate in the file is taken, or one is asked for with the join token. Two thirds
// of its life later the next one is asked for, and after a failure again every minute, or sooner where
// certificates are short. One that has ended all the same is replaced with the token, if that is still
// good.
//
// Threading: Obtain() blocks until there is a certificate; a thread of its own renews it afterwards.
// Errors:    those of rpc::JoinCluster() that another attempt would meet again; InvalidArgument
//            WORKER_ID_MISMATCH.
#pragma once

#include <functional>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/metrics/metrics.h"
#include "common/rpc/channel.h"
#include "common/rpc/worker_certificate.h"

namespace espalier::worker::session {

class CertificateKeeper {
 public:
  struct Options {
    std::vector<rpc::ChannelOptions> coordinators;  // with an authority; one works at a time
    std::string path;                               // of the file
    std::string token_file;                         // "": there is none
    std::string worker_id;                          // that is wanted; "": any
  };
  // `metrics` is borrowed.
  CertificateKeeper(Options options, metrics::Metrics& metrics)
      : options_(std::move(options)), metrics_(metrics) {}

  // The worker's id, by its certificate. Asks again and again while no coordinator answers. Errors also:
  // Cancelled when `stop` was requested.
  absl::StatusOr<std::string> Obtain(const std::stop_token& stop);
  // Renews it from now on; `renewed` is called on the keeper's thread after each time.
  void Watch(std::function<void()> renewed);

 private:
  using Certificate = rpc::WorkerCertificateFile;

  absl::StatusOr<Certificate> Join(const std::string& id);
  absl::StatusOr<Certificate> Renew();
  // Of the coordinators, the answer of the first that gives one.
  absl::StatusOr<Certificate> AskEach(
      const std::function<absl::StatusOr<Certificate>(const rpc::ChannelOptions&)>& ask) const;
  void Take(const Certificate& certificate);
  void Run(const std::stop_token& stop, const std::function<void()>& renewed);

  const Options options_;
  metrics::Metrics& metrics_;
  Certificate certificate_;
  std::jthread thread_;
};

}  // namespace espalier::worker::session
