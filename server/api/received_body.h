// ReceivedBody: what has arrived of the body of an update, in memory or in a file; and
// UnfinishedBodies: those of uploads that broke, with which another upload of the same bytes by
// the same worker goes on.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/clock.h"
#include "common/io/spool_file.h"
#include "common/wire/blob.h"
#include "server/round/upload.h"

namespace espalier::server::api {

// Of the bytes with one digest. Threading: one thread at a time.
class ReceivedBody {
 public:
  // `spool`: a file for it; null: it is kept in memory.
  ReceivedBody(uint64_t size, std::string sha256, std::unique_ptr<io::SpoolFile> spool);
  ReceivedBody(const ReceivedBody&) = delete;
  ReceivedBody& operator=(const ReceivedBody&) = delete;

  // Errors: those of wire::BlobAssembler and of the file system.
  absl::Status Add(const v1::Chunk& chunk) { return assembler_.Add(chunk); }
  uint64_t received() const { return assembler_.received(); }
  const std::string& sha256() const { return sha256_; }
  uint64_t size() const { return size_; }
  // Whether another upload may go on with it: it has a file, with a part of the bytes.
  bool is_part() const;
  // Once all has arrived. Before that it is an error that changes nothing.
  absl::StatusOr<round::Body> Finish();

 private:
  const uint64_t size_;
  const std::string sha256_;
  const std::shared_ptr<std::string> memory_ = std::make_shared<std::string>();
  const std::shared_ptr<io::SpoolFile> spool_;
  wire::BlobAssembler assembler_;
};

// Bounds:    at most kMost bodies, of kMostBytes together; the oldest go, and when another upload
//            comes those that are older than kKept.
// Threading: lives on the core executor.
class UnfinishedBodies {
 public:
  static constexpr size_t kMost = 16;
  static constexpr uint64_t kMostBytes = uint64_t{4} << 30;
  static constexpr absl::Duration kKept = absl::Minutes(10);

  // Borrowed.
  explicit UnfinishedBodies(const base::Clock& clock) : clock_(clock) {}

  void Keep(const std::string& worker, std::unique_ptr<ReceivedBody> body);
  // What this worker has sent of the bytes with this digest; null: nothing. Another one's might be
  // others, for which this one would have to answer.
  std::unique_ptr<ReceivedBody> Take(const std::string& worker, const std::string& sha256,
                                     uint64_t size);

 private:
  struct Kept {
    std::string worker;
    std::unique_ptr<ReceivedBody> body;
    absl::Duration since;
  };
  const base::Clock& clock_;
  std::list<Kept> bodies_;  // the oldest first
};

}  // namespace espalier::server::api
