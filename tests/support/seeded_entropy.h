// SeededEntropy: "random" bytes that are the same in every run of a test.
#pragma once

#include <mutex>
#include <string>

#include "common/base/entropy.h"
#include "common/base/rng.h"

namespace espalier::test {

class SeededEntropy : public base::Entropy {
 public:
  explicit SeededEntropy(uint64_t seed = 1) : rng_(base::StreamKey(seed, "entropy")) {}

  std::string Bytes(size_t count) override {
    const std::lock_guard lock(mutex_);
    std::string bytes(count, '\0');
    for (char& byte : bytes) byte = static_cast<char>(rng_.Below(256));
    return bytes;
  }

 private:
  std::mutex mutex_;
  base::Rng rng_;
};

}  // namespace espalier::test
