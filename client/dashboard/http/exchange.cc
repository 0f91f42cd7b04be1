#include "client/dashboard/http/exchange.h"

#include <sys/socket.h>

#include <cerrno>

namespace espalier::dashboard {
namespace {

bool PeerClosed(int socket) {
  char byte = 0;
  const ssize_t got = recv(socket, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  return got == 0 || (got < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR);
}

}  // namespace

int SocketOf(MHD_Connection* connection) {
  const MHD_ConnectionInfo* info =
      MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
  return info == nullptr ? -1 : info->connect_fd;
}

Exchange::Exchange(MHD_Connection* connection, std::string raw_target,
                   const std::atomic<bool>* stopping)
    : raw_target_(std::move(raw_target)), stopping_(stopping), connection_(connection) {}

void Exchange::ClearWoken() {
  const base::MutexLock lock(mutex_);
  woken_ = false;
}

bool Exchange::Suspend() {
  const base::MutexLock lock(mutex_);
  if (woken_ || gone_ || *stopping_) return false;
  suspended_ = true;
  MHD_suspend_connection(connection_);
  return true;
}

void Exchange::Over() {
  std::shared_ptr<LiveBody> ended;
  const base::MutexLock lock(mutex_);
  connection_ = nullptr;
  suspended_ = false;
  ended.swap(live_);
}

void Exchange::WakeLocked() {
  woken_ = true;
  if (!suspended_ || connection_ == nullptr) return;
  suspended_ = false;
  MHD_resume_connection(connection_);
}

void Exchange::Wake() {
  const base::MutexLock lock(mutex_);
  WakeLocked();
}

void Exchange::SetReply(Reply reply) {
  const base::MutexLock lock(mutex_);
  reply_ = std::move(reply);
  WakeLocked();
}

std::optional<Reply> Exchange::TakeReply() {
  const base::MutexLock lock(mutex_);
  return std::exchange(reply_, std::nullopt);
}

void Exchange::SetLive(std::shared_ptr<LiveBody> live) {
  const base::MutexLock lock(mutex_);
  live_ = std::move(live);
}

std::shared_ptr<LiveBody> Exchange::live() {
  const base::MutexLock lock(mutex_);
  return live_;
}

bool Exchange::gone() {
  const base::MutexLock lock(mutex_);
  return gone_ || *stopping_;
}

void Exchange::GiveUp() {
  const base::MutexLock lock(mutex_);
  gone_ = true;
  WakeLocked();
}

void Exchange::Tick(absl::Time now) {
  std::shared_ptr<LiveBody> body;
  {
    const base::MutexLock lock(mutex_);
    // Only a connection that is suspended has a socket that nobody else reads or closes.
    if (connection_ == nullptr || !suspended_) return;
    if (PeerClosed(SocketOf(connection_))) {
      gone_ = true;
      WakeLocked();
      return;
    }
    body = live_;
  }
  if (body != nullptr && body->Tick(now)) Wake();
}

}  // namespace espalier::dashboard
