// Following a job to its end: shared by `job submit --watch`, `--wait` and `job watch`.
#pragma once

#include "absl/status/statusor.h"
#include "client/cli/context.h"
#include "client/lib/client.h"

namespace espalier::cli {

struct WatchOptions {
  bool show_progress = true;    // on standard error
  bool events_as_json = false;  // each event as one line of JSON on standard output
  int64_t after_sequence = 0;
};

// Returns the job as it ended. Ctrl-C is Cancelled: the job goes on, and the user was told how to
// cancel it. With --timeout the wait ends with DeadlineExceeded.
absl::StatusOr<v1::Job> FollowJob(Context& context, client::Client& client, const v1::Job& job,
                                  const WatchOptions& options);

// The end of a job for people: state, accuracy, checkpoint; why it failed.
void PrintOutcome(const Context& context, const v1::Job& job);

}  // namespace espalier::cli
