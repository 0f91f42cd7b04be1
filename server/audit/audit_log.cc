#include "server/audit/audit_log.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "common/audit/reading.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/io/atomic_file.h"
#include "common/log/log.h"

namespace espalier::server::audit {
namespace {

namespace chain = ::espalier::audit;
using metrics::Metric;

constexpr absl::Duration kLogFailuresEvery = absl::Seconds(30);
// Of the newest file, so many bytes are looked at when the log is opened.
constexpr uint64_t kTail = uint64_t{1} << 20;

// The end of a chain as it was found.
struct End {
  Head head;
  chain::Former former;  // file "": there is none
  bool broken = false;
  std::string why;
};

// Looks at the end of the newest file. `first` is the entry that it is named after.
absl::StatusOr<End> EndOf(io::FileSystem& files, const std::string& path, std::string name,
                          uint64_t first) {
  End end;
  end.head = {first, ""};
  end.former.file = std::move(name);
  ESPALIER_ASSIGN_OR_RETURN(const auto file, files.Open(path));
  const uint64_t begin = file->size() <= kTail ? 0 : file->size() - kTail;
  chain::Lines lines(*file, begin, file->size());
  bool whole = begin == 0;  // what comes first may be the rest of a line
  const auto broken = [&end](std::string why) {
    end.broken = true;
    if (end.why.empty()) end.why = std::move(why);
  };
  for (;;) {
    ESPALIER_ASSIGN_OR_RETURN(const bool more, lines.Next());
    if (!more) break;
    if (!lines.finished()) {
      if (begin + lines.taken() < file->size()) broken("a line that is too long");
      continue;
    }
    if (!std::exchange(whole, true)) continue;
    const auto record = chain::ReadLine(lines.line());
    if (!record.ok()) {
      broken(base::MessageOf(record.status()));
      continue;
    }
    if (chain::HashOf(lines.line()) != record->hash) broken("an entry that was changed");
    if (end.head.hash.empty() ? begin == 0 && record->seq != first
                              : record->seq != end.head.seq + 1 || record->prev != end.head.hash) {
      broken("an entry that does not follow the one before it");
    }
    end.head = {std::max(record->seq, first), record->hash};
    end.former.kept = begin + lines.taken();
  }
  if (end.head.hash.empty()) broken("no entry");
  // All of a file that was changed is looked at by whoever verifies it.
  if (end.broken) end.former.kept = file->size();
  end.former.torn = file->size() - end.former.kept;
  return end;
}

}  // namespace

AuditLog::AuditLog(io::FileSystem& files, std::string directory, const base::Clock& clock,
                   metrics::Metrics& metrics, const Limits& limits)
    : files_(files),
      directory_(std::move(directory)),
      clock_(clock),
      metrics_(metrics),
      limits_(limits),
      failure_log_(kLogFailuresEvery),
      head_log_(limits.tell_head) {}

absl::StatusOr<std::unique_ptr<AuditLog>> AuditLog::Open(io::FileSystem& files,
                                                         std::string directory,
                                                         const base::Clock& clock,
                                                         metrics::Metrics& metrics,
                                                         const Limits& limits) {
  std::unique_ptr<AuditLog> log(new AuditLog(files, std::move(directory), clock, metrics, limits));
  if (const absl::Status begun = log->Continue(); !begun.ok()) {
    return base::Annotate(begun, "expected to go on with the audit log in " + log->directory_);
  }
  (void)log->head_log_.Take(clock.Elapsed());
  log->TellHead();
  return log;
}

AuditLog::~AuditLog() { stop_.request_stop(); }

chain::Record AuditLog::Own(std::string_view call, std::string_view outcome,
                            std::string note) const {
  chain::Record record;
  record.entry.time = clock_.Wall();
  record.entry.role = std::string(chain::kLogRole);
  record.entry.call = std::string(call);
  record.entry.outcome = std::string(outcome);
  record.note = std::move(note);
  return record;
}

absl::Status AuditLog::Continue() {
  ESPALIER_RETURN_IF_ERROR(files_.CreateDirectories(directory_));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> names, files_.List(directory_));
  std::optional<uint64_t> newest;
  for (const std::string& name : names) {
    if (const auto seq = chain::ParseFileName(name)) newest = std::max(newest.value_or(0), *seq);
  }
  End end;
  if (newest) {
    const std::string name = chain::FileName(*newest);
    ESPALIER_ASSIGN_OR_RETURN(end,
                              EndOf(files_, fmt::format("{}/{}", directory_, name), name, *newest));
  }
  std::string_view outcome = "ok";
  if (end.broken) {
    outcome = chain::kBroken;
    metrics_.Add(Metric::kAuditFaults, 1, "chain_broken");
    log::Error("audit_chain_broken",
               {{"file", end.former.file},
                {"message", "expected the entries that were written, found " + end.why +
                                "; a new chain begins. See what `espalier audit verify` says"}});
  } else if (end.former.torn > 0) {
    outcome = chain::kTorn;
    metrics_.Add(Metric::kAuditFaults, 1, "torn");
    log::Warning("audit_line_torn", {{"file", end.former.file}, {"bytes", end.former.torn}});
  }
  chain::Record begin =
      Own(chain::kBegin, outcome, end.former.file.empty() ? "" : chain::NoteOf(end.former));
  begin.seq = end.head.seq + 1;
  begin.prev = end.broken || end.head.hash.empty() ? chain::FirstPrev() : end.head.hash;
  const std::string line = chain::LineOf(begin);
  ESPALIER_RETURN_IF_ERROR(BeginFile(begin.seq, line));
  const base::MutexLock lock(mutex_);
  head_ = {begin.seq, begin.hash};
  return absl::OkStatus();
}

absl::Status AuditLog::BeginFile(uint64_t first_seq, const std::string& lines) {
  const std::string name = chain::FileName(first_seq);
  const std::string path = fmt::format("{}/{}", directory_, name);
  const std::string unfinished = path + std::string(io::AtomicFile::kTemporarySuffix);
  file_.reset();
  ESPALIER_ASSIGN_OR_RETURN(auto file, files_.Create(unfinished));
  ESPALIER_RETURN_IF_ERROR(file->Append(lines));
  ESPALIER_RETURN_IF_ERROR(file->Sync());
  ESPALIER_RETURN_IF_ERROR(files_.Rename(unfinished, path));
  ESPALIER_RETURN_IF_ERROR(files_.SyncDirectory(directory_));
  file_ = std::move(file);
  end_ = {name, lines.size(), 0};
  return absl::OkStatus();
}

void AuditLog::Append(Entry entry) {
  entry = chain::Bounded(std::move(entry));
  {
    const base::MutexLock lock(mutex_);
    // After one that was lost the others are lost, too, until that was written down.
    if (waiting_.size() >= limits_.max_waiting || lost_ > 0) {
      ++lost_;
      metrics_.Add(Metric::kAuditEntries, 1, "lost");
      return;
    }
    waiting_.push_back(std::move(entry));
    ++appended_;
    if (std::exchange(writing_, true)) return;
  }
  writer_.Post([this] { Write(); });
}

void AuditLog::Write() {
  for (;;) {
    std::vector<Entry> entries;
    int64_t lost = 0;
    {
      const base::MutexLock lock(mutex_);
      if (waiting_.empty() && lost_ == 0) {
        writing_ = false;
        return;
      }
      entries.assign(waiting_.begin(), waiting_.end());
      lost = lost_;
    }
    WriteUntilDone(std::move(entries), lost);
    if (stop_.stop_requested()) {
      const base::MutexLock lock(mutex_);
      if (!failure_.ok()) return;
    }
  }
}

void AuditLog::WriteUntilDone(std::vector<Entry> entries, int64_t lost) {
  for (;;) {
    const absl::Status done = TryToWrite(entries, lost);
    if (done.ok()) return;
    Failed(done);
    if (!base::SleepUnlessStopped(absl::ToChronoNanoseconds(limits_.retry), stop_.get_token())) {
      return;
    }
  }
}

absl::Status AuditLog::TryToWrite(const std::vector<Entry>& entries, int64_t lost) {
  Head head = this->head();
  std::string lines;
  const auto add = [&head, &lines](chain::Record record) {
    record.seq = head.seq + 1;
    record.prev = head.hash;
    lines += chain::LineOf(record);
    head = {record.seq, record.hash};
  };
  const uint64_t first = head.seq + 1;
  if (file_ == nullptr) {
    chain::Former former = end_;
    // What the write that failed left there. It may be gone after a crash.
    ESPALIER_ASSIGN_OR_RETURN(const auto left,
                              files_.Open(fmt::format("{}/{}", directory_, end_.file)));
    former.torn = left->size() - std::min(left->size(), former.kept);
    add(Own(chain::kBegin, former.torn > 0 ? chain::kTorn : "ok", chain::NoteOf(former)));
  }
  for (const Entry& entry : entries) {
    chain::Record record;
    record.entry = entry;
    add(std::move(record));
  }
  if (lost > 0) add(Own(chain::kLost, "ENTRIES_LOST", fmt::format("count={}", lost)));
  if (file_ == nullptr || end_.kept >= limits_.max_file_bytes) {
    ESPALIER_RETURN_IF_ERROR(BeginFile(first, lines));
  } else {
    absl::Status appended = file_->Append(lines);
    if (appended.ok()) appended = file_->Sync();
    if (!appended.ok()) {
      file_.reset();
      return appended;
    }
    end_.kept += lines.size();
  }
  Wrote(head, entries.size(), lost);
  return absl::OkStatus();
}

void AuditLog::Failed(const absl::Status& why) {
  metrics_.Add(Metric::kAuditFaults, 1, "write_failed");
  if (const auto times = failure_log_.Take(clock_.Elapsed())) {
    log::Error("audit_log_unwritable", {{"directory", directory_},
                                        {"reason", base::ReasonOf(why)},
                                        {"message", base::MessageOf(why)},
                                        {"times", *times}});
  }
  const base::MutexLock lock(mutex_);
  failure_ = why;
}

void AuditLog::Wrote(const Head& head, size_t entries, int64_t lost) {
  metrics_.Add(Metric::kAuditEntries, static_cast<double>(entries), "written");
  bool again = false;
  {
    const base::MutexLock lock(mutex_);
    head_ = head;
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(entries));
    lost_ -= lost;
    on_disk_ += entries;
    again = !std::exchange(failure_, absl::OkStatus()).ok();
  }
  written_.NotifyAll();
  if (again) log::Info("audit_log_written_again", {{"lost", lost}});
  if (head_log_.Take(clock_.Elapsed())) TellHead();
}

Head AuditLog::head() const {
  const base::MutexLock lock(mutex_);
  return head_;
}

absl::Status AuditLog::healthy() const {
  const base::MutexLock lock(mutex_);
  if (failure_.ok() && waiting_.size() < std::max<size_t>(1, limits_.max_waiting / 2)) {
    return absl::OkStatus();
  }
  return base::MakeError(
      absl::StatusCode::kUnavailable, "AUDIT_LOG_UNWRITABLE",
      fmt::format("expected an audit log that takes entries, found {}; calls that change something "
                  "are refused until it does. Look at the disk of the coordinator",
                  failure_.ok()
                      ? fmt::format("a disk that is behind by {} of them", waiting_.size())
                      : "that it cannot be written: " + base::MessageOf(failure_)));
}

absl::Status AuditLog::Flush(absl::Duration within) {
  base::MutexLock lock(mutex_);
  const uint64_t wanted = appended_;
  if (written_.WaitFor(mutex_, absl::ToChronoNanoseconds(within),
                       [this, wanted]()
                           ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return on_disk_ >= wanted; })) {
    return absl::OkStatus();
  }
  return base::MakeError(absl::StatusCode::kDeadlineExceeded, "AUDIT_LOG_LATE",
                         fmt::format("expected all entries of the audit log on disk within {}, "
                                     "found that {} wait; look at the disk of the coordinator",
                                     absl::FormatDuration(within), wanted - on_disk_));
}

void AuditLog::TellHead() { log::Info("audit_head", {{"head", chain::ToText(head())}}); }

}  // namespace espalier::server::audit
