// How a worker comes by its certificate, and by the next one.
//
// The key is made here, with each certificate anew, and never leaves the machine. Key and certificate are
// in one file that only this user may read, so that they change together.
//
// Threading: blocking calls, from any thread; one for a file at a time.
// Errors:    those of the coordinator's AccessService and of the connection; FailedPrecondition
//            CERTIFICATE_NOT_WRITTEN.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/rpc/channel.h"

namespace espalier::rpc {

struct WorkerCertificateFile {
  std::string worker_id;
  absl::Time not_after;
  absl::Time renew_at;  // two thirds of its life are over
};

// What is in the file: a worker's certificate that is valid now, and its key. Errors: those of tls.h;
// InvalidArgument CERTIFICATE_OF_NO_WORKER.
absl::StatusOr<WorkerCertificateFile> ReadWorkerCertificate(const std::string& path);

// Asks the coordinator for a certificate against the join token in a file, and writes it to `path`.
// `coordinator` has an authority, and needs no certificate. `worker_id` may be "": then the coordinator
// chooses one.
absl::StatusOr<WorkerCertificateFile> JoinCluster(ChannelOptions coordinator,
                                                  const std::string& token_file,
                                                  const std::string& worker_id,
                                                  const std::string& path);

// Asks for the next certificate with the one at `path`, which it replaces.
absl::StatusOr<WorkerCertificateFile> RenewWorkerCertificate(ChannelOptions coordinator,
                                                             const std::string& path);

// Whether another attempt, later, may well succeed: nobody decided anything.
bool MayJoinLater(const absl::Status& status);

}  // namespace espalier::rpc
