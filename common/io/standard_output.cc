#include "common/io/standard_output.h"

#include <poll.h>
#include <unistd.h>

#include <cstdio>
#include <iostream>

#include "common/base/status.h"

namespace espalier::io {
namespace {

constexpr char kReaderGone[] = "READER_GONE";

}  // namespace

absl::Status FlushStandardOutput() {
  std::cout.flush();
  const bool flushed = std::fflush(stdout) == 0;
  // An error of an earlier write counts, too: what it lost does not come back.
  return flushed && std::ferror(stdout) == 0 && std::cout ? absl::OkStatus() : Unwritten();
}

absl::Status Unwritten() {
  // The number of the error is lost inside of streams; a pipe without a reader can still be told.
  pollfd output{STDOUT_FILENO, POLLOUT, 0};
  if (poll(&output, 1, 0) > 0 && (output.revents & (POLLERR | POLLHUP)) != 0) {
    return base::MakeError(absl::StatusCode::kCancelled, kReaderGone,
                           "the reader of standard output has ended");
  }
  return base::MakeError(absl::StatusCode::kResourceExhausted, "OUTPUT_UNWRITABLE",
                         "standard output could not be written to its end; is the disk full, or is "
                         "it closed?");
}

bool ReaderGone(const absl::Status& status) { return base::ReasonOf(status) == kReaderGone; }

int ExitAfterPrinting(int done, int unwritten) {
  const absl::Status written = FlushStandardOutput();
  if (written.ok()) return done;
  if (!ReaderGone(written)) {
    std::fprintf(stderr, "error: %s\n", base::MessageOf(written).c_str());
  }
  return unwritten;
}

}  // namespace espalier::io
