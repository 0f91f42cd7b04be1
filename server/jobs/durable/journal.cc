#include "server/jobs/durable/journal.h"

#include <algorithm>
#include <cstddef>
#include <iterator>
#include <new>
#include <string>
#include <utility>

#include "common/base/status.h"
#include "common/log/log.h"

namespace espalier::server::jobs {
namespace {

constexpr absl::Duration kBetweenTries = absl::Seconds(1);
// The most bytes of one field or entry of what is written: below what the stores themselves can take.
constexpr size_t kMaxPieceBytes = size_t{256} * 1024 * 1024;

absl::Status Stops() {
  return base::MakeError(absl::StatusCode::kUnavailable, "COORDINATOR_STOPS",
                         "the coordinator stops; try again when it is back");
}

// It is not known what the disk has, or what is there is damaged; or the store is another coordinator's.
bool IsFatal(const absl::Status& status) {
  return status.code() == absl::StatusCode::kDataLoss ||
         status.code() == absl::StatusCode::kAborted;
}

// Whether the same can be written later.
bool IsOfTheMoment(const absl::Status& status) {
  return IsOfTheDisk(status) || status.code() == absl::StatusCode::kUnavailable ||
         status.code() == absl::StatusCode::kResourceExhausted;
}

// Whether any store can take it. Errors: OutOfRange RECORD_TOO_LONG.
absl::Status CheckLengths(const store::JobWrite& write) {
  size_t longest = 0;
  for (const auto* field : {&write.accepted, &write.record, &write.progress, &write.state}) {
    if (field->has_value()) longest = std::max(longest, (*field)->size());
  }
  for (const store::StoredEvent& event : write.events)
    longest = std::max(longest, event.bytes.size());
  for (const store::StoredUpdate& update : write.updates) {
    longest = std::max(longest, update.bytes.size());
  }
  if (longest <= kMaxPieceBytes) return absl::OkStatus();
  return base::MakeError(absl::StatusCode::kOutOfRange, "RECORD_TOO_LONG",
                         "expected at most " + std::to_string(kMaxPieceBytes) +
                             " bytes to be written of one thing, found " + std::to_string(longest));
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

void Journal::WhenWritten(Then then) {
  if (closed_) {
    then(Stops());
  } else if (!keeps() || (touched_.empty() && batch_ == nullptr)) {
    then(absl::OkStatus());
  } else {
    (touched_.empty() ? batch_->waiting : waiting_).push_back(std::move(then));
  }
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
    batch_->sources.push_back(source);
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

void Journal::Batch::Refuse(size_t change, absl::Status why) {
  const auto at = static_cast<std::ptrdiff_t>(change);
  refused.emplace_back(std::move(sources[change]), std::move(why));
  writes.erase(writes.begin() + at);
  complete.erase(complete.begin() + at);
  written.erase(written.begin() + at);
  sources.erase(sources.begin() + at);
}

absl::Status Journal::Complete(Batch& batch) {
  for (size_t i = 0; i < batch.writes.size();) {
    store::JobWrite& write = batch.writes[i];
    absl::Status status = batch.complete[i] ? batch.complete[i](write) : absl::OkStatus();
    if (status.ok()) {
      batch.complete[i] = nullptr;
      status = CheckLengths(write);
    }
    if (status.ok()) {
      ++i;
    } else if (IsFatal(status) || IsOfTheMoment(status)) {
      return status;
    } else {
      batch.Refuse(i, std::move(status));
    }
  }
  return absl::OkStatus();
}

absl::Status Journal::WriteNow(Disk& disk, Batch& batch) try {
  ESPALIER_RETURN_IF_ERROR(Complete(batch));
  return batch.writes.empty() ? absl::OkStatus() : disk.store.Commit(batch.writes);
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
    if (closed_) End();
    return;
  }
  if (trouble_.has_value()) log::Info("store_written_again");
  trouble_.reset();
  // Callbacks may touch and wait.
  const std::shared_ptr<Batch> batch = std::exchange(batch_, nullptr);
  for (const auto& written : batch->written) {
    if (written) written();
  }
  absl::Status outcome;
  for (const auto& [source, why] : batch->refused) {
    log::Error("job_not_written",
               {{"reason", base::ReasonOf(why)}, {"message", base::MessageOf(why)}});
    source->OnRefused(why);
    // Some of those who wait are of other jobs: they ask again, and find it done.
    outcome = base::MakeError(absl::StatusCode::kUnavailable, "NOT_WRITTEN",
                              "something that was to be written with it cannot be; try again");
  }
  for (const Then& then : batch->waiting) then(outcome);
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
  std::vector<Then> waiting = std::exchange(waiting_, {});
  if (batch_ != nullptr) std::ranges::move(batch_->waiting, std::back_inserter(waiting));
  if (batch_ != nullptr) batch_->waiting.clear();
  for (const Then& then : waiting) then(Stops());
  std::exchange(ended_, nullptr)();
}

}  // namespace espalier::server::jobs
