// S3Client: the few requests of the S3 protocol that files need, signed, with bounded waits and
// attempts.
//
// Keys:      as they are in the bucket, the options' prefix included.
// Ownership: a body is borrowed until the call returns.
// Threading: all members may be called from any thread; each request has a connection of its own.
// Errors:    see s3_error.h. Every request may be repeated, and is, when the store or the way to it
//            fails.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/base/mutex.h"
#include "common/base/rng.h"
#include "server/object_store/http_client.h"
#include "server/object_store/s3_options.h"

namespace espalier::server::object_store {

struct ObjectInfo {
  uint64_t size = 0;
  std::string etag;  // of this version of the object
};

// An upload in parts that has begun.
struct Upload {
  std::string key;
  std::string id;
};

// A part of what a listing found.
struct ListPage {
  std::vector<std::string> keys;
  std::vector<std::string> prefixes;  // up to and with the delimiter, of keys that have one
  std::string next;                   // what continues the listing; "" at its end
};

class S3Client {
 public:
  static absl::StatusOr<std::unique_ptr<S3Client>> Create(S3Options options);

  const S3Options& options() const { return options_; }

  absl::StatusOr<ObjectInfo> Head(const std::string& key);
  // Exactly `size` > 0 bytes at `offset` of the version `etag`.
  absl::Status Get(const std::string& key, const std::string& etag, uint64_t offset, char* out,
                   size_t size);
  absl::Status Put(const std::string& key, const HttpBody& body);
  absl::Status Delete(const std::string& key);
  // Of the version `etag` of `from`.
  absl::Status Copy(const std::string& from, const std::string& etag, const std::string& to);

  absl::StatusOr<Upload> StartUpload(const std::string& key);
  // Both return the ETag of the part; numbers begin with 1.
  absl::StatusOr<std::string> PutPart(const Upload& upload, int number, const HttpBody& body);
  absl::StatusOr<std::string> CopyPart(const Upload& upload, int number, const std::string& from,
                                       const std::string& etag, uint64_t offset, uint64_t size);
  // Errors: Aborted (UPLOAD_LOST) when the store does not know the upload any more: it may have
  // been completed by a request whose answer was lost.
  absl::Status CompleteUpload(const Upload& upload, const std::vector<std::string>& etags);
  absl::Status AbortUpload(const Upload& upload);

  // At most `max_keys` keys and prefixes that begin with `prefix`; `next` is of the page before, or
  // "".
  absl::StatusOr<ListPage> List(const std::string& prefix, const std::string& next, int max_keys);

 private:
  struct Call;

  explicit S3Client(S3Options options);
  absl::StatusOr<HttpResult> Send(const Call& call);
  HttpRequest Sign(const Call& call) const;
  std::string CopySource(const std::string& key) const;
  absl::Duration TransferTimeout(uint64_t bytes) const;
  // Before attempt `attempt` + 1.
  absl::Duration Backoff(int attempt);
  absl::Status Misunderstood(const Call& call, std::string_view expected) const;
  absl::StatusOr<std::string> EtagOf(const Call& call, const HttpResult& answer) const;

  const S3Options options_;
  const std::string host_;  // as in the header
  HttpClient http_;
  base::Mutex mutex_;
  base::Rng rng_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace espalier::server::object_store
