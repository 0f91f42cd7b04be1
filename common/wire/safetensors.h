// The safetensors file format: an 8-byte little-endian header length, a JSON header that names
// tensors, types, shapes and byte ranges, then the data. Format:
// github.com/huggingface/safetensors.
//
// Writing:   EncodeSafetensorsHeader() and then the data of the tensors in the order given, no
//            gaps.
// Reading:   strict. Refused are duplicate names, unknown fields, ranges that overlap, leave holes
//            or end elsewhere than the file, sizes that do not follow from shape and type, and
//            headers larger than 100 MB or the file. Nothing is allocated by a declared size before
//            that.
// Threading: pure functions.
// Errors:    InvalidArgument (SAFETENSORS_INVALID).
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace espalier::wire {

enum class DataType { kF32, kI32, kI64, kU8, kF16, kBF16, kF64, kBool };

// "F32", as it is written in files.
std::string_view DataTypeName(DataType type);

// Bytes of one element.
uint64_t BytesPerElement(DataType type);

struct TensorInfo {
  std::string name;
  DataType type = DataType::kF32;
  std::vector<int64_t> shape;  // empty: a scalar
  uint64_t begin = 0;          // of its data, from the beginning of the file
  uint64_t bytes = 0;
};

struct SafetensorsHeader {
  std::map<std::string, std::string> metadata;
  std::vector<TensorInfo> tensors;  // in the order of their data
  // The tensor with this name, or null.
  const TensorInfo* Find(std::string_view name) const;
};

constexpr uint64_t kMaxSafetensorsHeaderBytes = 100'000'000;

// The bytes before the data, padded so that data begins at a multiple of 8. Only name, type and
// shape of `tensors` are used. Errors: also for negative dimensions and names that are used twice.
absl::StatusOr<std::string> EncodeSafetensorsHeader(
    const std::map<std::string, std::string>& metadata, std::span<const TensorInfo> tensors);

// Parses the first bytes of a file of `file_bytes`; `bytes` must hold the whole header.
absl::StatusOr<SafetensorsHeader> DecodeSafetensorsHeader(std::string_view bytes,
                                                          uint64_t file_bytes);

// Reads the header of a file. Errors: also those of reading.
absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(
    const io::ReadableFile& file, uint64_t max_header_bytes = kMaxSafetensorsHeaderBytes);

}  // namespace espalier::wire
