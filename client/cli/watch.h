// Following a job to its end: shared by `job submit --watch`, `--wait`, `job watch` and `demo`.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "client/cli/context.h"
#include "client/lib/client.h"

namespace espalier::cli {

// Whom the events of a job are told. Calls for one job do not overlap.
struct JobObserver {
  std::function<void(const v1::JobEvent&)> on_event;
  // Why nothing happens: what the job waits for, a lost connection.
  std::function<void(const std::string&)> on_note;
};

// Returns the job as it ended. Errors: Cancelled when `stop` was requested, DeadlineExceeded, and
// those of Client::WatchJob.
absl::StatusOr<v1::Job> ObserveJob(client::Client& client, const std::string& name,
                                   int64_t after_sequence, const JobObserver& observer,
                                   const std::stop_token& stop, absl::Time deadline);

struct WatchOptions {
  bool show_progress = true;    // on standard error
  bool events_as_json = false;  // each event as one line of JSON on standard output
  int64_t after_sequence = 0;
};

// The same for people at the command line. Ctrl-C is Cancelled: the job goes on, and the user was
// told how to cancel it. With --timeout the wait ends with DeadlineExceeded.
absl::StatusOr<v1::Job> FollowJob(Context& context, client::Client& client, const v1::Job& job,
                                  const WatchOptions& options);

// The end of a job for people: state, accuracy, checkpoint; why it failed.
void PrintOutcome(const Context& context, const v1::Job& job);

}  // namespace espalier::cli
