// Client: the public API as C++ calls.
//
// Errors:    absl::Status with the server's code, message, reason (base::ReasonOf) and field
//            violations (ViolationsOf). Paths of violations have no "spec." in front, as in a job
//            file. A server that cannot be reached, or is too busy, is Unavailable; the message
//            says what to check. Messages hold what the server said; escape them before you print
//            them.
// Deadlines: every unary call ends within `timeout`. Until then it is tried again while no
//            connection comes about, unless the reason will stay: nobody listens, or TLS does not
//            fit. Streams reconnect, see below. Of several servers the next one is tried when one
//            cannot be reached, for up to 20 s, in which one that stands by takes over.
// Threading: thread-safe; one Client may serve several threads.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/config/parameters.h"
#include "espalier/v1/access.pb.h"
#include "espalier/v1/checkpoint.pb.h"
#include "espalier/v1/cluster.pb.h"
#include "espalier/v1/events.pb.h"
#include "espalier/v1/job.pb.h"
#include "espalier/v1/method.pb.h"
#include "espalier/v1/progress.pb.h"
#include "espalier/v1/structure.pb.h"
#include "espalier/v1/system.pb.h"

namespace espalier::client {

struct ClientOptions {
  // "host:port"; of several servers that stand in for each other, with commas between them.
  std::string server = "127.0.0.1:7070";
  // PEM files; TLS when `tls_ca_file` is set, with a client certificate when the other two are.
  std::string tls_ca_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string tls_passphrase_file;  // of an encrypted key
  std::string tls_dir;     // folder with what is not named above: ca.pem, cert.pem, key.pem
  std::string token_file;  // a user's token
  bool insecure = false;   // plain text also with another machine
  absl::Duration timeout = absl::Seconds(30);
  // How long a stream that broke is taken up again before its error is given back.
  absl::Duration reconnect_for = absl::Minutes(2);
  // Once it is requested, all calls and streams end, Cancelled.
  std::stop_token stop = {};
};

// Field violations that came with an error.
std::vector<config::Violation> ViolationsOf(const absl::Status& status);
// How many more there were than an answer has room for.
int ViolationsLeftOut(const absl::Status& status);
// The same error with these violations; for errors that are found before a request is sent.
absl::Status WithViolations(const absl::Status& status,
                            const std::vector<config::Violation>& violations, int left_out = 0);

class Client {
 public:
  // Makes no connection yet. Errors: InvalidArgument SERVER_ADDRESS for what is no host:port, and
  // TLS_… for files that cannot be used.
  static absl::StatusOr<std::unique_ptr<Client>> Create(ClientOptions options);
  ~Client();

  // A request without a request_id gets one, so that it may be sent again.
  absl::StatusOr<v1::Job> CreateJob(v1::CreateJobRequest request);
  // Cancelled when `stop` is requested.
  absl::StatusOr<v1::Job> GetJob(const std::string& name, const std::stop_token& stop = {});
  absl::StatusOr<v1::Job> CancelJob(const std::string& name);
  absl::StatusOr<v1::Job> PauseJob(const std::string& name);
  absl::StatusOr<v1::Job> ResumeJob(const std::string& name);
  absl::StatusOr<v1::Job> RetryJob(const std::string& name);
  absl::StatusOr<v1::DeleteJobResponse> DeleteJob(const v1::DeleteJobRequest& request);
  // All pages, at most `limit` jobs of those that `request` asks for.
  absl::StatusOr<v1::ListJobsResponse> ListJobs(const v1::ListJobsRequest& request, size_t limit);
  // All pages: every round of a job, or at most `max_points` of them when that is not 0.
  absl::StatusOr<v1::ListRoundsResponse> ListRounds(const std::string& name, int32_t max_points);

  // Gives the events after `after_sequence` to `on_event`, in order and each once, until the job
  // has ended (OK), `stop` is requested (Cancelled) or `deadline` passes (DeadlineExceeded). A
  // stream that breaks is resumed after the last event seen; `on_reconnect` is told why.
  absl::Status WatchJob(const std::string& name, int64_t after_sequence,
                        const std::function<void(const v1::JobEvent&)>& on_event,
                        const std::function<void(const absl::Status&)>& on_reconnect,
                        std::stop_token stop, absl::Time deadline = absl::InfiniteFuture());
  // Gives what changes among all jobs, or all workers, to `on_change`, as the service sends it, until
  // `stop` is requested (Cancelled). A stream that breaks is resumed by its token; `on_reconnect` is told
  // why. Where it cannot be resumed, `on_change` gets a `reset` before everything comes again.
  absl::Status WatchJobs(v1::WatchJobsRequest request,
                         const std::function<void(const v1::WatchJobsResponse&)>& on_change,
                         const std::function<void(const absl::Status&)>& on_reconnect,
                         std::stop_token stop);
  absl::Status WatchWorkers(v1::WatchWorkersRequest request,
                            const std::function<void(const v1::WatchWorkersResponse&)>& on_change,
                            const std::function<void(const absl::Status&)>& on_reconnect,
                            std::stop_token stop);
  // Who does what in the round in work, or did in one of the newest. Errors: NotFound JOB_NOT_FOUND,
  // ROUND_NOT_REMEMBERED.
  absl::StatusOr<v1::RoundProgress> GetRoundProgress(const v1::GetRoundProgressRequest& request);

  absl::StatusOr<v1::SystemInfo> GetSystem();

  absl::StatusOr<v1::ListMethodsResponse> ListMethods();
  absl::StatusOr<v1::Method> DescribeMethod(const std::string& name);

  absl::StatusOr<v1::ListWorkersResponse> ListWorkers(size_t limit);
  // Who this client is for the coordinator.
  absl::StatusOr<v1::Identity> WhoAmI();
  absl::StatusOr<v1::CreateTokenResponse> CreateToken(const v1::Token& token,
                                                      absl::Duration lifetime);
  absl::StatusOr<v1::ListTokensResponse> ListTokens(size_t limit);
  absl::Status RevokeToken(const std::string& name);
  absl::Status RevokeWorker(const std::string& name);
  absl::StatusOr<v1::Worker> DrainWorker(const std::string& name);
  absl::StatusOr<v1::Worker> UndrainWorker(const std::string& name);
  absl::StatusOr<v1::ClusterInfo> GetClusterInfo();

  absl::StatusOr<v1::ListCheckpointsResponse> ListCheckpoints(const std::string& job, size_t limit);
  absl::StatusOr<v1::Checkpoint> GetCheckpoint(const std::string& name);
  // Errors: DataLoss CHECKPOINT_CORRUPT.
  absl::StatusOr<v1::Checkpoint> VerifyCheckpoint(const std::string& name);
  absl::Status DeleteCheckpoint(const std::string& name);
  // Which weights of a tensor exist, counted in a grid, and what came and went since another checkpoint.
  absl::StatusOr<v1::Topology> GetTopology(const v1::GetTopologyRequest& request);
  absl::StatusOr<v1::RecommendResponse> Recommend(const v1::RecommendRequest& request);
  // Downloads to "<path>.part", continuing where an earlier attempt stopped; checks every chunk's
  // CRC32C and the whole file's SHA-256, then renames to `path`. `on_progress` gets the bytes
  // present. Errors: DataLoss CHECKSUM_MISMATCH when the bytes are not what the server announced.
  absl::Status DownloadCheckpoint(const v1::Checkpoint& checkpoint, const std::string& path,
                                  const std::function<void(int64_t)>& on_progress,
                                  std::stop_token stop);
  // Gives the bytes of the file to `take`, in order, which may end it with an error. Every chunk is
  // checked before, and the whole file at the end, so that the bytes are known to be right only when
  // this returns OK. Errors: as above.
  absl::Status ReadCheckpoint(const v1::Checkpoint& checkpoint,
                              const std::function<absl::Status(std::string_view)>& take,
                              std::stop_token stop);

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace espalier::client
