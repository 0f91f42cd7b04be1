// Api: the calls of the JSON API, each by one call of the client library.
//
// Threading: thread-safe. Handle() waits for the coordinator, for the client's timeout at most. The
// destructor waits for downloads, whose client must have been told to stop before.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "client/dashboard/http/message.h"
#include "client/dashboard/routes.h"
#include "client/dashboard/streams/connection_monitor.h"
#include "client/dashboard/streams/hub.h"
#include "client/lib/client.h"
#include "common/base/mutex.h"

namespace espalier::dashboard {

class Api {
 public:
  static constexpr int kDownloads = 4;
  static constexpr int kPoints = 500;

  // `server` is for people: the coordinator's address. All others must outlive this object.
  Api(client::Client& client, Hub& hub, ConnectionMonitor& monitor, std::string server,
      std::string csrf_token);
  ~Api();

  Reply Handle(const Route& route, const Request& request);

 private:
  absl::StatusOr<Reply> Answer(const Route& route, const Request& request);
  absl::StatusOr<Reply> Act(const Route& route, const Request& request);
  absl::StatusOr<Reply> ListJobs(const Request& request);
  absl::StatusOr<Reply> ListRounds(const Route& route, const Request& request);
  absl::StatusOr<Reply> GetRoundProgress(const Route& route, const Request& request);
  absl::StatusOr<Reply> GetTopology(const Request& request);
  absl::StatusOr<Reply> Session();
  absl::StatusOr<Reply> WatchJob(const Route& route, const Request& request);
  absl::StatusOr<Reply> WatchBoard(const std::string& board, const Request& request);
  absl::StatusOr<Reply> ReadFile(const std::string& name);

  client::Client& client_;
  Hub& hub_;
  ConnectionMonitor& monitor_;
  const std::string server_;
  const std::string csrf_token_;
  base::Mutex mutex_;
  base::CondVar download_ended_;
  int downloads_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace espalier::dashboard
