// Blobs in memory, as a worker's tasks ask for them.
#pragma once

#include <map>
#include <string>

#include "common/io/sha256.h"
#include "espalier/v1/worker.pb.h"

namespace espalier::test {

struct BlobMap {
  v1::BlobRef Put(const std::string& bytes) {
    v1::BlobRef ref;
    ref.set_digest(io::Sha256Hex(bytes));
    ref.set_size_bytes(bytes.size());
    by_digest[ref.digest()] = bytes;
    return ref;
  }
  std::string& at(const v1::BlobRef& ref) { return by_digest.at(ref.digest()); }

  std::map<std::string, std::string> by_digest;
};

}  // namespace espalier::test
