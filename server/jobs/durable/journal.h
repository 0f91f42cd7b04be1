// Journal: when what the core has decided is written to the store, and who waits for that.
//
// The core goes on without waiting for disks. What it changed is collected between two of its tasks,
// when every job is consistent, and written in one transaction on a thread of its own; while that is
// under way further changes wait for the next one. So whatever is lost when the process ends is a
// tail of what happened, and nothing of that tail was told to anybody: events are shown, updates
// acknowledged and jobs accepted once they are written.
//
// Trouble:   while nothing can be written, because there is no space for instance, the same changes
//            are tried again every second, and nothing is lost. An error after which it is not known
//            what the disk has ends the process (`fatal`).
// Bounds:    one transaction is under way; jobs begin no step while there is trouble.
// Threading: lives on the core executor; the store is used on `writer`, which has one thread.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/base/executor.h"
#include "common/base/status.h"
#include "server/pretrained/part_store.h"
#include "server/store/store.h"

namespace espalier::server::jobs {

// Whether nothing is wrong but that a disk, a database or a bucket does not take it now: it is tried
// again.
inline bool IsOfTheDisk(const absl::Status& status) {
  const std::string reason = base::ReasonOf(status);
  return reason == "STORAGE_FULL" || reason == "STORAGE_ERROR" || reason == "IO_ERROR" ||
         reason == "SYNC_FAILED" || reason == "STORE_LEASE_EXPIRED";
}

class Journal {
 public:
  struct Change {
    store::JobWrite write;
    // On the writer's thread, before it is written: adds what takes long to make. May be empty.
    std::function<absl::Status(store::JobWrite& write)> complete;
    // On the core, once it is written.
    std::function<void()> written;
  };
  // What is kept: a job.
  class Source {
   public:
    virtual ~Source() = default;
    // On the core, between two of its tasks: what changed since the last call.
    virtual Change TakeChange() = 0;
  };

  // Keeps nothing: what is touched counts as written at once.
  explicit Journal(base::Executor& core, const base::Clock& clock) : core_(core), clock_(clock) {}
  // Everything is borrowed. The store is used on `writer` only, once it is here; `fatal` is called on
  // the core when the process has to end.
  struct Disk {
    store::Store& store;
    pretrained::PartStore& parts;
    base::Executor& writer;
    std::function<void(const absl::Status&)> fatal;
  };
  Journal(base::Executor& core, const base::Clock& clock, Disk disk)
      : core_(core), clock_(clock), disk_(std::move(disk)) {}

  bool keeps() const { return disk_.has_value(); }
  // Where what is too long for the store goes. Only where something is kept.
  pretrained::PartStore& parts() const { return disk_->parts; }

  // `source` changed.
  void Touch(std::shared_ptr<Source> source);
  // Calls `then` once everything is written that was touched so far; at once, if it is. Errors:
  // Unavailable COORDINATOR_STOPS when it never will be, by this process.
  using Then = std::function<void(absl::Status)>;
  void WhenWritten(Then then);
  // The same for somebody who would otherwise wait for as long as the disk is full: where nothing can
  // be written, now or before `then` is called, it gets the trouble. What was touched is kept and
  // written all the same, as soon as it can be.
  void WhenWrittenOrInTrouble(Then then);
  // Calls `read` with the store on the writer's thread, once what is being written now is there, and
  // then `then` on the core with its result. Only where something is kept. Errors: those of `read`;
  // ResourceExhausted OUT_OF_MEMORY.
  void Read(std::function<absl::Status(store::Store& store)> read,
            std::function<void(absl::Status)> then);
  // Why nothing can be written at present.
  const std::optional<absl::Status>& trouble() const { return trouble_; }
  // Ends the process, if it keeps jobs: it is not known what the disk has.
  void Fatal(const absl::Status& status);
  // To be called regularly.
  void Tick();
  // Writes what was touched so far, and nothing after it. `done` is called once that is written, or
  // could not be.
  void Close(std::function<void()> done);

 private:
  struct Waiter {
    Then then;
    bool waits_out_trouble;
  };
  // What is written together.
  struct Batch {
    std::vector<store::JobWrite> writes;
    // Of the writes; those that were called are empty.
    std::vector<std::function<absl::Status(store::JobWrite& write)>> complete;
    std::vector<std::function<void()>> written;
    std::vector<Waiter> waiting;
  };

  void Wait(Waiter waiter);
  void TellOfTrouble();
  void Schedule();
  void Flush();
  void Write();
  static absl::Status WriteNow(Disk& disk, Batch& batch);
  void OnWritten(const absl::Status& status);
  void End();

  base::Executor& core_;
  const base::Clock& clock_;
  std::optional<Disk> disk_;
  std::vector<std::shared_ptr<Source>> touched_;  // in the order of their first touch
  std::vector<Waiter> waiting_;                   // for what is touched
  std::shared_ptr<Batch> batch_;                  // being written, or tried again
  bool writing_ = false;
  bool scheduled_ = false;
  bool closed_ = false;
  std::function<void()> ended_;
  std::optional<absl::Status> trouble_;
  absl::Duration try_again_;
};

}  // namespace espalier::server::jobs
