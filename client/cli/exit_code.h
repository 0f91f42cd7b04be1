// What the process returns to its caller. docs/reference/exit-codes.md is the page for people.
#pragma once

#include "absl/status/status.h"
#include "espalier/v1/job.pb.h"

namespace espalier::cli {

enum ExitCode {
  kExitDone = 0,
  kExitUnexpected = 1,
  kExitUsage = 2,
  kExitNotFound = 3,
  kExitDenied = 4,
  kExitPrecondition = 5,
  kExitUnavailable = 6,
  kExitJobNotSucceeded = 7,
  kExitExhausted = 8,
  kExitInterrupted = 130,
  // What a shell shows of a program that SIGPIPE ended; here where the signal is ignored.
  kExitReaderGone = 141,
};

int ExitCodeOf(const absl::Status& status);

// For commands that waited for a job's end: 0 when it SUCCEEDED, else 7.
int ExitCodeOf(v1::Job::State state);

}  // namespace espalier::cli
