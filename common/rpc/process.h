// Settings of gRPC and of what it stands on, for a whole process.
#pragma once

namespace espalier::rpc {

// To be called first in main(), before there is a second thread.
//
// The memory of the process is kept private (common/base/process_memory.h). gRPC's own lines on standard error are off, since they say less than ours; GRPC_VERBOSITY=ERROR
// brings them back. Abseil's search for deadlocks is off: Debian builds Abseil with it, so it keeps
// a graph of every lock of every call, which never shrinks, and would end the process at an order
// of locks that it does not like.
void PrepareProcess();

// Whether GRPC_VERBOSITY asks for lines of gRPC, as whoever started the process wanted it.
bool GrpcVerbosityWasSet();

}  // namespace espalier::rpc
