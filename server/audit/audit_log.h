// AuditLog: writes who called what, when, from where, and how it ended, into files that only grow and
// whose lines are chained by hashes (common/audit/entry.h).
//
// A file begins with each life of a coordinator, after a write that failed, and when the one before has
// max_file_bytes. It never changes once there is another. Each appears with its first entry in it, and none is
// ever removed or cut: what a crash left in the middle of a line stays, and the next file's first entry says
// where the former ends.
//
// Entries are written by a thread of its own, all that wait at once, and are then synced: a crash of the
// machine loses those of the last moment. A write that fails is tried again, in a new file, every
// `retry`, with the entries kept meanwhile. At most max_waiting wait; of more, only their number
// is kept, and becomes an entry.
//
// Ownership: `files`, `clock` and `metrics` are borrowed. The destructor writes what waits, or, while
//            writes fail, tries once more.
// Threading: all members are thread-safe but the destructor. Only Open(), Flush() and the destructor wait for
//            a disk, of which the last has no bound.
// Errors:    Open(): those of the file system. A chain that was changed is none: it is logged and counted, and
//            a new chain begins, whose first entry says so.
#pragma once

#include <deque>
#include <memory>
#include <stop_token>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/audit/entry.h"
#include "common/base/clock.h"
#include "common/base/executor.h"
#include "common/base/mutex.h"
#include "common/base/pacer.h"
#include "common/io/file_system.h"
#include "common/metrics/metrics.h"

namespace espalier::server::audit {

using Entry = ::espalier::audit::Entry;
using Head = ::espalier::audit::Head;

struct Limits {
  uint64_t max_file_bytes = uint64_t{64} << 20;
  // Of at most 3 KiB each, and mostly of 300 bytes.
  size_t max_waiting = 8192;
  absl::Duration retry = absl::Seconds(1);
  // How often the head is written to the ordinary log, when it has changed.
  absl::Duration tell_head = absl::Minutes(10);
};

class AuditLog {
 public:
  // Goes on with the chain in `directory`, which is made if need be and which no other process may write
  // to. The first entry is on disk when it returns.
  static absl::StatusOr<std::unique_ptr<AuditLog>> Open(io::FileSystem& files,
                                                        std::string directory,
                                                        const base::Clock& clock,
                                                        metrics::Metrics& metrics,
                                                        const Limits& limits = {});
  ~AuditLog();
  AuditLog(const AuditLog&) = delete;
  AuditLog& operator=(const AuditLog&) = delete;

  // Texts of `entry` may be anything; they are made printable and cut.
  void Append(Entry entry);

  // The newest entry on disk.
  Head head() const;

  // OK while calls may be let through that change something. Errors: Unavailable AUDIT_LOG_UNWRITABLE when
  // the newest write failed, or half of max_waiting wait. Between that and the whole there is
  // room for what is under way and for calls that are refused.
  absl::Status healthy() const;

  // Waits until all that was appended before is on disk. Errors: DeadlineExceeded AUDIT_LOG_LATE.
  absl::Status Flush(absl::Duration within);

  // Writes the head to the ordinary log: audit_head head=SEQ:HASH. Whoever keeps that log elsewhere can
  // tell that the audit log was not made anew. Done by itself at the start and every `tell_head`.
  void TellHead();

 private:
  AuditLog(io::FileSystem& files, std::string directory, const base::Clock& clock,
           metrics::Metrics& metrics, const Limits& limits);

  // Finds the end of the chain, and begins a file behind it.
  absl::Status Continue();
  // Writes all that waits; on the writer's thread.
  void Write();
  void WriteUntilDone(std::vector<Entry> entries, int64_t lost);
  // One attempt.
  absl::Status TryToWrite(const std::vector<Entry>& entries, int64_t lost);
  // Under a name that is not there yet, with `lines` in it.
  absl::Status BeginFile(uint64_t first_seq, const std::string& lines);
  void Failed(const absl::Status& why);
  void Wrote(const Head& head, size_t entries, int64_t lost);

  ::espalier::audit::Record Own(std::string_view call, std::string_view outcome,
                                std::string note) const;

  io::FileSystem& files_;
  const std::string directory_;
  const base::Clock& clock_;
  metrics::Metrics& metrics_;
  const Limits limits_;

  // The writer's alone, after Open().
  std::unique_ptr<io::WritableFile> file_;  // null after a write that failed
  ::espalier::audit::Former end_;  // of the chain on disk: its file and the bytes that count
  base::Pacer failure_log_;
  base::Pacer head_log_;

  mutable base::Mutex mutex_;
  base::CondVar written_;
  std::deque<Entry> waiting_ ABSL_GUARDED_BY(mutex_);
  int64_t lost_ ABSL_GUARDED_BY(mutex_) = 0;       // since the newest entry that waits
  uint64_t appended_ ABSL_GUARDED_BY(mutex_) = 0;  // in all, without those that were lost
  uint64_t on_disk_ ABSL_GUARDED_BY(mutex_) = 0;   // of those
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;   // Write() is posted or runs
  absl::Status failure_ ABSL_GUARDED_BY(mutex_);
  Head head_ ABSL_GUARDED_BY(mutex_);

  std::stop_source stop_;
  base::ThreadExecutor writer_{1};  // goes first
};

}  // namespace espalier::server::audit
