// The limits and intervals of a cluster in one place. The coordinator hands the ones that concern
// workers out at the handshake (v1::Welcome), so that clients have no constants of their own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "absl/time/time.h"

namespace espalier::base {

constexpr uint32_t kProtocolMin = 1;
constexpr uint32_t kProtocolMax = 1;

// A coordinator without --memory-budget takes this share of what the machine or its control group
// has: the rest is for the file cache, for what libraries keep and for what no price knows.
constexpr double kMemoryBudgetShare = 0.8;
// What gRPC takes in one message, on all sides.
constexpr size_t kMaxMessageBytes = 4 * 1024 * 1024;
// An answer of the API ends its lists early, so that it stays below that with all its other fields.
constexpr size_t kMaxAnswerBytes = kMaxMessageBytes - 512 * 1024;
// A job's spec, encoded. Answers repeat it, with defaults filled in; job files have as much text.
constexpr size_t kMaxSpecBytes = 1024 * 1024;
// An error in the metadata of a call, of which receivers take 8 KiB with all other headers.
constexpr size_t kMaxStatusBytes = 7 * 1024;

struct Limits {
  // An upload moves about one chunk in each round trip.
  uint32_t chunk_bytes = 512 * 1024;
  // Blobs up to this size travel inside the task.
  uint32_t inline_bytes = 64 * 1024;
  uint64_t max_update_bytes = uint64_t{4} << 30;
  // Uploads up to this size are kept in memory; longer ones go to a file.
  uint64_t spool_threshold_bytes = 256 * 1024;
  absl::Duration heartbeat_interval = absl::Seconds(2);
  absl::Duration heartbeat_timeout = absl::Seconds(10);
  // An upload or a model's download, the wait for its turn included.
  absl::Duration transfer_timeout = absl::Minutes(5);
  // A transfer of which no chunk arrives or leaves for so long is ended. One chunk in that time is
  // 70 kbit/s, half of the slowest link that training is meant for.
  absl::Duration transfer_stall = absl::Minutes(1);
  int concurrent_uploads = 4;
  int concurrent_downloads = 4;
  // Of one worker in each direction. It does one task at a time; others wait behind it.
  int transfers_per_session = 1;
  int waiting_transfers_per_session = 4;
  // How long CreateJob waits for workers to describe the job's data set.
  absl::Duration describe_timeout = absl::Seconds(20);
  // A session must begin with Register, an upload with its header.
  absl::Duration first_message_timeout = absl::Seconds(10);
  // How long an ended stream may take to leave; then its call is cancelled.
  absl::Duration stream_end_timeout = absl::Seconds(10);
  // How long a planner holds its job's seat from the last thing that it did.
  absl::Duration planner_lease = absl::Seconds(30);
  // A reader of WatchJob that takes no event for so long is dropped; it can resume.
  absl::Duration watch_stall = absl::Minutes(1);
  int concurrent_checkpoint_downloads = 8;
  int waiting_checkpoint_downloads = 64;
  absl::Duration checkpoint_download_timeout = absl::Hours(1);
  // How long GetCheckpoint's ticket opens DownloadCheckpoint, and how many are good at once.
  absl::Duration ticket_lifetime = absl::Minutes(10);
  int max_tickets = 10'000;
  // Jobs that have not ended.
  int max_jobs = 10'000;
  // Jobs that have ended and are still known, the newest ones.
  int64_t max_ended_jobs = 10'000;
  int max_workers = 10'000;
  // Workers that are gone and still listed, the newest ones; and for how long: those that vanished,
  // and those that left on purpose.
  int max_gone_workers = 1'000;
  absl::Duration remember_lost_workers = absl::Hours(24);
  absl::Duration remember_left_workers = absl::Minutes(10);
  // Messages that wait for one worker's stream; a worker that lets more pile up is disconnected.
  int max_session_queue = 64;
};

}  // namespace espalier::base
