#include "server/round/blob_store.h"

#include <utility>

#include "common/io/sha256.h"

namespace espalier::server::round {

std::shared_ptr<const Blob> BlobStore::Put(std::string data, bool is_values,
                                           std::shared_ptr<Traffic> traffic) {
  auto blob = std::make_shared<Blob>();
  blob->digest = io::Sha256Hex(data);
  blob->data = std::move(data);
  blob->is_values = is_values;
  blob->traffic = std::move(traffic);
  return Add(std::move(blob));
}

std::shared_ptr<const Blob> BlobStore::PutFile(std::string digest,
                                               std::shared_ptr<const io::MappedFile> file,
                                               std::shared_ptr<Traffic> traffic) {
  auto blob = std::make_shared<Blob>();
  blob->digest = std::move(digest);
  blob->file = std::move(file);
  blob->is_values = true;
  blob->traffic = std::move(traffic);
  return Add(std::move(blob));
}

std::shared_ptr<const Blob> BlobStore::Add(std::shared_ptr<Blob> blob) {
  const base::MutexLock lock(mutex_);
  std::erase_if(blobs_, [](const auto& entry) { return entry.second.expired(); });
  blobs_.emplace(blob->digest, blob);
  return blob;
}

std::shared_ptr<const Blob> BlobStore::Get(const std::string& digest, const std::string& job) {
  const base::MutexLock lock(mutex_);
  std::shared_ptr<const Blob> found;
  const auto [begin, end] = blobs_.equal_range(digest);
  for (auto it = begin; it != end; ++it) {
    const auto blob = it->second.lock();
    if (blob == nullptr) continue;
    if (blob->traffic->job == job) return blob;
    if (found == nullptr) found = blob;
  }
  return found;
}

}  // namespace espalier::server::round
