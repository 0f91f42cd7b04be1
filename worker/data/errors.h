// Error texts of the data readers: file, place, expected, found, what to do.
//
// `file` is always relative to the data root ("mnist/train-images-idx3-ubyte.gz"), so a message may
// be sent to the coordinator without telling where a worker keeps its data.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace espalier::worker::data {

inline constexpr char kDatasetInvalid[] = "DATASET_INVALID";
inline constexpr char kDatasetTooLarge[] = "DATASET_TOO_LARGE";
inline constexpr char kDatasetNotFound[] = "DATASET_NOT_FOUND";
inline constexpr char kPathOutsideDataRoot[] = "PATH_OUTSIDE_DATA_ROOT";
inline constexpr char kDataSpecInvalid[] = "DATA_SPEC_INVALID";
inline constexpr char kPartitionImpossible[] = "PARTITION_IMPOSSIBLE";

struct Complaint {
  std::string where;  // "line 7, column 3", "row 12", or "" for the whole file
  std::string expected;
  std::string found;
  std::string fix;
};

// FailedPrecondition with reason DATASET_INVALID.
absl::Status DatasetInvalid(std::string_view file, const Complaint& complaint);
// ResourceExhausted with reason DATASET_TOO_LARGE: a limit of this worker, not a fault of the data.
absl::Status DatasetTooLarge(std::string_view file, const Complaint& complaint);

// "line 7", for Complaint::where.
std::string AtLine(int64_t line);

// `text` from a file in single quotes, cut to 40 characters; controls, characters that nobody sees
// and bytes that are not UTF-8 become '?', so that a file cannot put control sequences into logs
// and terminals.
std::string Quote(std::string_view text);

}  // namespace espalier::worker::data
