// BlobStore: byte strings by their SHA-256, from which workers fetch models and topologies.
//
// Ownership: a blob lives while somebody holds its handle (the job) or reads from it (a transfer).
// Threading: thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "common/base/mutex.h"
#include "common/io/mapped_file.h"

namespace espalier::server::round {

// Bytes that a job's messages took. Values are counted apart, because those shrink with the
// density.
struct Traffic {
  explicit Traffic(std::string job_name) : job(std::move(job_name)) {}

  const std::string job;  // "jobs/{id}"; empty for what belongs to no job in work
  std::atomic<int64_t> sent{0};
  std::atomic<int64_t> received{0};
  std::atomic<int64_t> values_sent{0};
  std::atomic<int64_t> values_received{0};
};

struct Blob {
  std::string digest;  // hex SHA-256
  std::string data;
  std::shared_ptr<const io::MappedFile> file;  // instead of `data`
  bool is_values = false;
  std::shared_ptr<Traffic> traffic;  // who is charged for transfers

  std::string_view bytes() const {
    return file == nullptr ? std::string_view(data) : file->bytes();
  }
  void Charge(int64_t bytes) const {
    traffic->sent += bytes;
    if (is_values) traffic->values_sent += bytes;
  }
};

class BlobStore {
 public:
  std::shared_ptr<const Blob> Put(std::string data, bool is_values,
                                  std::shared_ptr<Traffic> traffic);
  // Bytes that are in a mapped file; `digest` is theirs.
  std::shared_ptr<const Blob> PutFile(std::string digest,
                                      std::shared_ptr<const io::MappedFile> file,
                                      std::shared_ptr<Traffic> traffic);
  // That blob as `job` holds it, so that the transfer is charged to it; as somebody else does if
  // the job does not. Null when nobody holds it any more.
  std::shared_ptr<const Blob> Get(const std::string& digest, const std::string& job);

 private:
  std::shared_ptr<const Blob> Add(std::shared_ptr<Blob> blob);

  base::Mutex mutex_;
  // Several jobs may hold the same bytes; each has its own handle, and is charged by it.
  std::multimap<std::string, std::weak_ptr<const Blob>> blobs_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace espalier::server::round
