// Ctrl-C and its relatives (SIGINT, SIGTERM, SIGHUP).
//
// The first signal requests a stop when the running command listens (token() was called), and ends
// the process at once when it does not; the second one always ends it. Child processes started by
// ChildProcess die with this one.
//
// Threading: one object per process, made in main() before any thread, so that all threads inherit
// the blocked signals and one thread receives them.
#pragma once

#include <atomic>
#include <stop_token>
#include <thread>

namespace espalier::cli {

class Interrupt {
 public:
  Interrupt();
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // From now on the first signal requests a stop and the caller ends the command.
  std::stop_token token();
  bool requested() const { return source_.stop_requested(); }

 private:
  void Receive();

  std::stop_source source_;
  std::atomic<bool> listened_ = false;
  std::atomic<bool> closing_ = false;
  std::thread receiver_;
};

}  // namespace espalier::cli
