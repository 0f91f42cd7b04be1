// SeededEntropy: the same bytes in every run of a test, different ones for every seed and call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <string>

#include "common/base/entropy.h"
#include "common/base/rng.h"

namespace espalier::test {

class SeededEntropy : public base::Entropy {
 public:
  explicit SeededEntropy(uint64_t seed) : rng_(base::StreamKey(seed, "entropy")) {}

  std::string Bytes(size_t n) override {
    const std::lock_guard lock(mutex_);
    std::string bytes;
    while (bytes.size() < n) bytes += static_cast<char>(rng_.Next32() & 0xff);
    return bytes;
  }

 private:
  std::mutex mutex_;
  base::Rng rng_;
};

}  // namespace espalier::test
