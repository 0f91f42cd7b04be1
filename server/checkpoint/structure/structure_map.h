// Where the weights of one tensor of a checkpoint are: counted in the cells of a grid, by degree, and
// against another checkpoint.
//
// Memory:    4 bytes for each row and column up to kMaxUnits, above which degrees are left out; at most
//            32 for each cell; and blocks of EntryReader.
// Time:      one pass over the weights. `keep_going` is asked once for each block of them, and what it
//            says ends the pass.
// Errors:    NotFound TENSOR_NOT_FOUND, with the names that there are; InvalidArgument INVALID_BINS and
//            COMPARE_OTHER_MODEL; those of EntryReader and of ReadStoredModel().
// Threading: free functions.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/io/file_system.h"
#include "espalier/v1/structure.pb.h"

namespace espalier::server::checkpoint {

inline constexpr int kDefaultBins = 128;
inline constexpr int kMaxBins = 512;
inline constexpr int kMaxDegreeBars = 256;
inline constexpr int64_t kMaxUnits = 20'000'000;  // rows or columns whose degrees are counted
inline constexpr int64_t kMaxStrengths = 10'000;  // of columns, one by one
inline constexpr int kMaxTensors = 10'000;        // that an answer lists

struct MapRequest {
  std::string tensor = {};  // "": the first sparse one, else the first
  int bins = 0;             // 0: kDefaultBins
  // A grid whose answer would have more bytes is made coarser.
  size_t max_bytes = 0;
};

using KeepGoing = std::function<absl::Status()>;

// `before` may be null. Everything of the answer but the names and rounds of the checkpoints.
absl::StatusOr<v1::Topology> MapStructure(const io::ReadableFile& file,
                                          const io::ReadableFile* before, const MapRequest& request,
                                          const KeepGoing& keep_going);

}  // namespace espalier::server::checkpoint
