// Download: a checkpoint's file on its way from the coordinator to a browser.
//
// A thread of its own reads it, and waits while kQueuedBytes are not sent yet, for kStall at most. The
// last bytes are handed out once the whole file was found to be what the coordinator announced; a
// download that goes wrong before breaks its connection, so that no browser takes it for whole.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>
#include <thread>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/dashboard/http/message.h"
#include "common/base/mutex.h"

namespace espalier::dashboard {

class Download : public LiveBody {
 public:
  static constexpr size_t kQueuedBytes = 4 << 20;
  static constexpr absl::Duration kStall = absl::Seconds(60);

  // Reads a file whole and checked: gives its bytes to `take` in order, which may end it by an error.
  using Reading = std::function<absl::Status(
      const std::function<absl::Status(std::string_view)>& take, const std::stop_token& stop)>;
  // `done` is called once, when the thread has ended.
  static std::shared_ptr<Download> Start(Reading reading, std::function<void()> done);
  ~Download() override;

  // Waits until there are bytes, or the file has ended. Errors: the one by which it ended; the reader
  // goes on where `time` has passed.
  absl::Status WaitForBegin(absl::Duration time);

  void Listen(std::function<void()> wake) override;
  Progress Read(char* to, size_t room, size_t& count) override;

 private:
  struct Shared {
    base::Mutex mutex;
    base::CondVar taken;
    base::CondVar came;
    std::deque<std::string> blocks ABSL_GUARDED_BY(mutex);
    size_t bytes ABSL_GUARDED_BY(mutex) = 0;
    size_t sent_of_front ABSL_GUARDED_BY(mutex) = 0;
    bool ended ABSL_GUARDED_BY(mutex) = false;
    absl::Status status ABSL_GUARDED_BY(mutex);
    std::function<void()> wake ABSL_GUARDED_BY(mutex);
    std::stop_source stop;
  };

  explicit Download(std::shared_ptr<Shared> shared) : shared_(std::move(shared)) {}
  static absl::Status Put(Shared& shared, std::string_view block);

  const std::shared_ptr<Shared> shared_;
};

}  // namespace espalier::dashboard
