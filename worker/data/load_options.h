// LoadOptions: what reading a data set may take, and whether it has to go on.
//
// Threading:   `cancelled` may be set by any thread; everything else belongs to the one that reads.
// Errors:      Cancelled; ResourceExhausted DATASET_TOO_LARGE.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <string_view>

#include "absl/status/status.h"

namespace espalier::worker::data {

struct LoadOptions {
  // Largest size of one file after decompression.
  int64_t max_file_bytes = int64_t{16} << 30;
  // Most memory for a data set and what is needed beside it while it is read.
  int64_t max_memory_bytes = std::numeric_limits<int64_t>::max();
  // Decompressed bytes that may still be read from all files together, counted down; null: no
  // limit. Borrowed.
  int64_t* bytes_left = nullptr;
  // Reading ends within about a second after this becomes true; null: never. Borrowed.
  const std::atomic<bool>* cancelled = nullptr;

  bool is_cancelled() const {
    return cancelled != nullptr && cancelled->load(std::memory_order_relaxed);
  }
  // Cancelled once is_cancelled().
  absl::Status CheckGoesOn() const;
  // DATASET_TOO_LARGE when reading as far as `file` takes `bytes` beyond max_memory_bytes.
  absl::Status CheckMemory(std::string_view file, int64_t bytes) const;
};

// std::sort() and std::stable_sort() that a cancelled load leaves, with an unspecified order.
template <typename Sort, typename Less>
absl::Status SortUnlessCancelled(const LoadOptions& options, const Sort& sort, const Less& less) {
  struct Left {};
  try {
    sort([&](const auto& a, const auto& b) {
      if (options.is_cancelled()) throw Left();
      return less(a, b);
    });
  } catch (const Left&) {
  }
  return options.CheckGoesOn();
}

}  // namespace espalier::worker::data
