#include "client/cli/interrupt.h"

#include <pthread.h>
#include <unistd.h>

#include <csignal>

#include "client/cli/exit_code.h"

namespace espalier::cli {
namespace {

sigset_t StopSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGHUP);
  return signals;
}

}  // namespace

Interrupt::Interrupt() {
  const sigset_t signals = StopSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  receiver_ = std::thread([this] { Receive(); });
}

Interrupt::~Interrupt() {
  closing_ = true;
  pthread_kill(receiver_.native_handle(), SIGINT);
  receiver_.join();
}

std::stop_token Interrupt::token() {
  listened_ = true;
  return source_.get_token();
}

void Interrupt::Receive() {
  const sigset_t signals = StopSignals();
  for (;;) {
    int received = 0;
    sigwait(&signals, &received);
    if (closing_) return;
    if (!listened_ || source_.stop_requested()) _exit(kExitInterrupted);
    source_.request_stop();
  }
}

}  // namespace espalier::cli
