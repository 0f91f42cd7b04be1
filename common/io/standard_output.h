// Whether what a program printed has arrived. Every program asks before it ends, because whoever
// looks at its exit code only must not take half an output for the whole.
#pragma once

#include "absl/status/status.h"

namespace espalier::io {

// Writes out what stdout and std::cout hold. Errors: those of Unwritten().
absl::Status FlushStandardOutput();

// Why standard output could not be written, for those who found that it could not.
// Errors: Cancelled READER_GONE when the reader of a pipe or socket has ended; that is the reader's
// right, as in `espalier job list | head -1`, and no message is due (see ReaderGone()). Otherwise
// ResourceExhausted OUTPUT_UNWRITABLE, for instance on a full disk.
absl::Status Unwritten();

bool ReaderGone(const absl::Status& status);

// For a program that has answered a question on standard output and ends: `done` when the answer
// has arrived, else `unwritten`, and the reason on standard error unless the reader has gone.
int ExitAfterPrinting(int done, int unwritten);

}  // namespace espalier::io
