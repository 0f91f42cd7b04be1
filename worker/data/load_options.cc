#include "worker/data/load_options.h"

#include <fmt/format.h>

#include "common/base/status.h"
#include "worker/data/errors.h"

namespace espalier::worker::data {

absl::Status LoadOptions::CheckGoesOn() const {
  return is_cancelled() ? absl::CancelledError("the task was cancelled") : absl::OkStatus();
}

absl::Status LoadOptions::CheckMemory(std::string_view file, int64_t bytes) const {
  if (bytes <= max_memory_bytes) return absl::OkStatus();
  return DatasetTooLarge(
      file, {"",
             fmt::format("a data set that takes at most {} bytes of memory while it is read, the "
                         "worker's --max-dataset-bytes",
                         max_memory_bytes),
             fmt::format("at least {}", bytes),
             "use fewer rows, a worker with more memory, or a larger --max-dataset-bytes"});
}

}  // namespace espalier::worker::data
