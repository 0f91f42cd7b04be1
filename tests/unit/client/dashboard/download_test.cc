#include "client/dashboard/streams/download.h"

#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "absl/time/clock.h"

namespace espalier::dashboard {
namespace {

class DownloadTest : public ::testing::Test {
 protected:
  ~DownloadTest() override {
    const base::MutexLock lock(mutex_);
    changed_.Wait(mutex_, [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return done_; });
  }
  std::shared_ptr<Download> Start(Download::Reading reading) {
    auto download = Download::Start(std::move(reading), [this] {
      const base::MutexLock lock(mutex_);
      done_ = true;
      changed_.NotifyAll();
    });
    download->Listen([this] {
      const base::MutexLock lock(mutex_);
      ++woken_;
      changed_.NotifyAll();
    });
    return download;
  }
  // Everything until the end, which `end` says.
  std::string ReadAll(Download& download, LiveBody::Progress& end) {
    std::string text;
    for (;;) {
      int seen = 0;
      {
        const base::MutexLock lock(mutex_);
        seen = woken_;
      }
      char block[100];
      size_t count = 0;
      end = download.Read(block, sizeof(block), count);
      text.append(block, count);
      if (end == LiveBody::Progress::kBytes) continue;
      if (end != LiveBody::Progress::kWait) return text;
      const base::MutexLock lock(mutex_);
      changed_.Wait(
          mutex_, [this, seen]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return woken_ != seen; });
    }
  }

  base::Mutex mutex_;
  base::CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
  int woken_ ABSL_GUARDED_BY(mutex_) = 0;
};

TEST_F(DownloadTest, GivesTheWholeFile) {
  const auto download = Start([](const auto& take, const std::stop_token&) -> absl::Status {
    for (int i = 0; i < 1000; ++i) {
      const absl::Status taken = take(std::to_string(i) + ",");
      if (!taken.ok()) return taken;
    }
    return absl::OkStatus();
  });
  std::string expected;
  for (int i = 0; i < 1000; ++i) expected += std::to_string(i) + ",";
  LiveBody::Progress end{};
  EXPECT_EQ(ReadAll(*download, end), expected);
  EXPECT_EQ(end, LiveBody::Progress::kEnd);
}

TEST_F(DownloadTest, AFileThatTurnsOutDamagedIsNeverWhole) {
  const auto download = Start([](const auto& take, const std::stop_token&) -> absl::Status {
    if (const absl::Status taken = take("all of it"); !taken.ok()) return taken;
    return absl::DataLossError("another hash");
  });
  LiveBody::Progress end{};
  EXPECT_EQ(ReadAll(*download, end), "");
  EXPECT_EQ(end, LiveBody::Progress::kBroken);
}

TEST_F(DownloadTest, ARefusalIsKnownBeforeTheReplyBegins) {
  const auto download = Start([](const auto&, const std::stop_token&) {
    return absl::PermissionDeniedError("not for viewers");
  });
  EXPECT_EQ(download->WaitForBegin(absl::Seconds(20)).code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(DownloadTest, ReadingWaitsForTheBrowserAndEndsWithIt) {
  std::atomic<size_t> given = 0;
  auto download = Start([&given](const auto& take, const std::stop_token&) -> absl::Status {
    const std::string block(1 << 20, 'x');
    for (;;) {
      if (const absl::Status taken = take(block); !taken.ok()) return taken;
      given += block.size();
    }
  });
  EXPECT_TRUE(download->WaitForBegin(absl::Seconds(20)).ok());
  // The browser is gone; the destructor of the test waits for the thread.
  download = nullptr;
  EXPECT_LE(given, Download::kQueuedBytes);
}

}  // namespace
}  // namespace espalier::dashboard
