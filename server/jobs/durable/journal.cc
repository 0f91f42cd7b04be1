#include "server/jobs/durable/journal.h"

#include <algorithm>
#include <iterator>
#include <new>
#include <utility>

#include "common/base/status.h"
#include "common/log/log.h"

namespace espalier::server::jobs {
namespace {

constexpr absl::Duration kBetweenTries = absl::Seconds(1);

absl::Status Stops() {
  return base::MakeError(absl::StatusCode::kUnavailable, "COORDINATOR_STOPS",
                         "the coordinator stops; try again when it is back");
}

// It is not known what the disk has, or what is there is damaged; or the store is another coordinator's.
bool IsFatal(const absl::Status& status) {
  return status.code() == absl::StatusCode::kDataLoss ||
         status.code() == absl::StatusCode::kAborted;
}

absl::Status NoMemory() {
  return base::MakeError(
      absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
      "the coordinator has not enough memory left to read the job; give it more");
}

}  // namespace

void Journal::Touch(std::shared_ptr<Source> source) {
  if (!keeps() || closed_ || std::ranges::find(touched_, source) != touched_.end()) return;
  touched_.push_back(std::move(source));
  Schedule();
}

void Journal::WhenWritten(Then then) { Wait({std::move(then), true}); }

void Journal::WhenWrittenOrInTrouble(Then then) { Wait({std::move(then), false}); }

void Journal::Wait(Waiter waiter) {
  if (closed_) {
    waiter.then(Stops());
  } else if (!keeps() || (touched_.empty() && batch_ == nullptr)) {
    waiter.then(absl::OkStatus());
  } else if (trouble_.has_value() && !waiter.waits_out_trouble) {
    waiter.then(*trouble_);
  } else {
    (touched_.empty() ? batch_->waiting : waiting_).push_back(std::move(waiter));
  }
}

void Journal::TellOfTrouble() {
  std::vector<Waiter> told;
  for (std::vector<Waiter>* all : {&batch_->waiting, &waiting_}) {
    const auto first = std::ranges::stable_partition(*all, &Waiter::waits_out_trouble).begin();
    std::move(first, all->end(), std::back_inserter(told));
    all->erase(first, all->end());
  }
  const absl::Status trouble = *trouble_;
  for (const Waiter& waiter : told) waiter.then(trouble);
}

void Journal::Read(std::function<absl::Status(store::Store& store)> read,
                   std::function<void(absl::Status)> then) {
  disk_->writer.Post([this, read = std::move(read), then = std::move(then)] {
    absl::Status status;
    try {
      status = read(disk_->store);
    } catch (const std::bad_alloc&) {
      status = NoMemory();
    }
    core_.Post([then, status] {
      try {
        then(status);
      } catch (const std::bad_alloc&) {
        then(NoMemory());
      }
    });
  });
}

void Journal::Schedule() {
  if (scheduled_ || batch_ != nullptr) return;
  scheduled_ = true;
  core_.Post([this] {
    scheduled_ = false;
    Flush();
  });
}

void Journal::Flush() {
  if (batch_ != nullptr) return;
  if (touched_.empty()) {
    End();
    return;
  }
  batch_ = std::make_shared<Batch>();
  batch_->waiting = std::exchange(waiting_, {});
  for (const auto& source : std::exchange(touched_, {})) {
    Change change = source->TakeChange();
    batch_->writes.push_back(std::move(change.write));
    batch_->complete.push_back(std::move(change.complete));
    batch_->written.push_back(std::move(change.written));
  }
  Write();
}

void Journal::Write() {
  writing_ = true;
  disk_->writer.Post([this, batch = batch_] {
    const absl::Status status = WriteNow(*disk_, *batch);
    core_.Post([this, status] { OnWritten(status); });
  });
}

absl::Status Journal::WriteNow(Disk& disk, Batch& batch) try {
  for (size_t i = 0; i < batch.writes.size(); ++i) {
    if (!batch.complete[i]) continue;
    ESPALIER_RETURN_IF_ERROR(batch.complete[i](batch.writes[i]));
    batch.complete[i] = nullptr;
  }
  return disk.store.Commit(batch.writes);
} catch (const std::bad_alloc&) {
  return base::MakeError(absl::StatusCode::kUnavailable, "STORAGE_ERROR",
                         "there is not enough memory to write jobs down");
}

void Journal::OnWritten(const absl::Status& status) {
  writing_ = false;
  if (!status.ok()) {
    if (IsFatal(status)) Fatal(status);
    if (!trouble_.has_value()) {
      log::Error("store_not_written",
                 {{"reason", base::ReasonOf(status)}, {"message", base::MessageOf(status)}});
    }
    trouble_ = status;
    try_again_ = clock_.Elapsed() + kBetweenTries;
    if (closed_) {
      End();
    } else {
      TellOfTrouble();
    }
    return;
  }
  if (trouble_.has_value()) log::Info("store_written_again");
  trouble_.reset();
  // Callbacks may touch and wait.
  const std::shared_ptr<Batch> batch = std::exchange(batch_, nullptr);
  for (const auto& written : batch->written) {
    if (written) written();
  }
  for (const Waiter& waiter : batch->waiting) waiter.then(absl::OkStatus());
  Flush();
}

void Journal::Fatal(const absl::Status& status) {
  if (keeps()) disk_->fatal(status);
}

void Journal::Tick() {
  if (trouble_.has_value() && !writing_ && clock_.Elapsed() >= try_again_) Write();
}

void Journal::Close(std::function<void()> done) {
  ended_ = std::move(done);
  closed_ = true;
  if (!keeps() || (batch_ == nullptr && !scheduled_) || trouble_.has_value()) End();
}

void Journal::End() {
  if (!closed_ || !ended_) return;
  // What could not be written is tried by the next process.
  std::vector<Waiter> waiting = std::exchange(waiting_, {});
  if (batch_ != nullptr) std::ranges::move(batch_->waiting, std::back_inserter(waiting));
  if (batch_ != nullptr) batch_->waiting.clear();
  for (const Waiter& waiter : waiting) waiter.then(Stops());
  std::exchange(ended_, nullptr)();
}

}  // namespace espalier::server::jobs
