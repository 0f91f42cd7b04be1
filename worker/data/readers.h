// One reader per file format. Internal to this folder; use load.h.
//
// Errors:      all are DATASET_INVALID and name file, row, column, what was expected, found and
//              the fix. Bytes are never trusted: storage grows with what was read, not with what
//              a header declares.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/byte_stream.h"
#include "worker/data/dataset.h"

namespace espalier::worker::data {

// Rows are read in blocks of about this many bytes.
inline constexpr int64_t kReadBlockBytes = 1 << 20;

// What a label or group takes in a vector that grows.
inline constexpr int64_t kBytesPerInteger = 2 * sizeof(int64_t);

// Reads `rows` rows of builder.features() bytes, of `stream`, whose header declares `shape`.
absl::Status ReadByteRows(ByteStream& stream, int64_t rows, const std::string& shape,
                          DatasetBuilder& builder);

// --- IDX (MNIST): big-endian header, then values row-major.
struct IdxHeader {
  int type = 0;  // 0x08 unsigned byte, 0x0C int32
  std::vector<int64_t> dims;

  int64_t rows() const { return dims[0]; }
  // Values in one row.
  int64_t features() const;
};
inline constexpr int kIdxByte = 0x08;
inline constexpr int kIdxInt32 = 0x0C;

absl::StatusOr<IdxHeader> ReadIdxHeader(ByteStream& stream);
absl::Status ReadIdx(ByteStream& images, ByteStream& labels, DatasetBuilder& builder);
absl::StatusOr<std::vector<int64_t>> ReadIdxLabels(ByteStream& stream);
// One group id a row: the value of a vector, or column 2 (QMNIST's writer) of a matrix.
absl::StatusOr<std::vector<int64_t>> ReadIdxGroups(ByteStream& stream);

// --- CIFAR-10 binary: records of one label and 3072 pixels.
inline constexpr int64_t kCifarChannels = 3;
inline constexpr int64_t kCifarSide = 32;
inline constexpr int64_t kCifarFeatures = 3072;
inline constexpr int32_t kCifarClasses = 10;
absl::Status ReadCifar10(ByteStream& stream, DatasetBuilder& builder);

// --- NumPy .npy, versions 1 to 3, C order.
struct NpyHeader {
  char kind = 0;  // 'u', 'i' or 'f'
  int width = 0;  // bytes per value
  std::vector<int64_t> dims;

  int64_t rows() const { return dims[0]; }
  int64_t features() const;
};
absl::StatusOr<NpyHeader> ReadNpyHeader(ByteStream& stream);
// An array of examples × values, whose labels are the caller's to append.
absl::Status ReadNpyRows(ByteStream& stream, DatasetBuilder& builder);
// `target`: whether labels are classes, or rows of numbers to be learned.
absl::Status ReadNpy(ByteStream& features, ByteStream& labels, DatasetBuilder& builder,
                     v1::DataSpec::Target target);
// A vector of integers (u1, i4 or i8).
absl::StatusOr<std::vector<int64_t>> ReadNpyIntegers(ByteStream& stream);

// --- Group ids, one integer a line.
absl::StatusOr<std::vector<int64_t>> ReadTextGroups(ByteStream& stream);

// Labels of `labels.name()` as int32, checked to be in [0, kMaxClasses), one for each of `rows`
// rows.
absl::Status AppendLabels(const std::vector<int64_t>& labels, int64_t rows, const std::string& file,
                          const std::string& features_file, DatasetBuilder& builder);

}  // namespace espalier::worker::data
