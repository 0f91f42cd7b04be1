#include "client/dashboard/streams/download.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "common/base/status.h"

namespace espalier::dashboard {

std::shared_ptr<Download> Download::Start(Reading reading, std::function<void()> done) {
  auto shared = std::make_shared<Shared>();
  // It outlives this object for as long as its call needs to be cancelled, and holds all that it uses.
  std::thread([shared, reading = std::move(reading), done = std::move(done)] {
    const absl::Status status =
        reading([&shared](std::string_view block) { return Put(*shared, block); },
                shared->stop.get_token());
    {
      const base::MutexLock lock(shared->mutex);
      shared->ended = true;
      shared->status = status;
      shared->came.NotifyAll();
      if (shared->wake != nullptr) shared->wake();
    }
    done();
  }).detach();
  return std::shared_ptr<Download>(new Download(std::move(shared)));
}

Download::~Download() {
  shared_->stop.request_stop();
  const base::MutexLock lock(shared_->mutex);
  shared_->wake = nullptr;
  shared_->taken.NotifyAll();
}

absl::Status Download::WaitForBegin(absl::Duration time) {
  Shared& shared = *shared_;
  const base::MutexLock lock(shared.mutex);
  shared.came.WaitFor(shared.mutex, absl::ToChronoNanoseconds(time),
                      [&shared]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared.mutex) {
                        return shared.ended || !shared.blocks.empty();
                      });
  return shared.ended ? shared.status : absl::OkStatus();
}

void Download::Listen(std::function<void()> wake) {
  const base::MutexLock lock(shared_->mutex);
  shared_->wake = std::move(wake);
}

absl::Status Download::Put(Shared& shared, std::string_view block) {
  const base::MutexLock lock(shared.mutex);
  const bool room =
      shared.taken.WaitFor(shared.mutex, absl::ToChronoNanoseconds(kStall),
                           [&shared]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(shared.mutex) {
                             return shared.bytes < kQueuedBytes || shared.stop.stop_requested();
                           });
  if (shared.stop.stop_requested()) return absl::CancelledError("the reader went away");
  if (!room) {
    return base::MakeError(absl::StatusCode::kDeadlineExceeded, "DOWNLOAD_STALLED",
                           "expected the browser to read the file, found that it did not");
  }
  shared.bytes += block.size();
  shared.blocks.emplace_back(block);
  shared.came.NotifyAll();
  if (shared.wake != nullptr) shared.wake();
  return absl::OkStatus();
}

LiveBody::Progress Download::Read(char* to, size_t room, size_t& count) {
  Shared& shared = *shared_;
  const base::MutexLock lock(shared.mutex);
  if (shared.ended && !shared.status.ok()) return Progress::kBroken;
  // The last block is kept back until all are known to be right.
  const size_t kept_back = shared.ended ? 0 : 1;
  while (count < room && shared.blocks.size() > kept_back) {
    const std::string& front = shared.blocks.front();
    const size_t size = std::min(front.size() - shared.sent_of_front, room - count);
    std::memcpy(to + count, front.data() + shared.sent_of_front, size);
    count += size;
    shared.sent_of_front += size;
    shared.bytes -= size;
    if (shared.sent_of_front == front.size()) {
      shared.blocks.pop_front();
      shared.sent_of_front = 0;
    }
  }
  if (count > 0) {
    shared.taken.NotifyAll();
    return Progress::kBytes;
  }
  return shared.ended ? Progress::kEnd : Progress::kWait;
}

}  // namespace espalier::dashboard
