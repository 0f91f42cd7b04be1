#include "common/wire/safetensors.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "common/base/status.h"

namespace espalier::wire {
namespace {

using Json = nlohmann::json;

constexpr size_t kLengthBytes = 8;
constexpr int kMaxRank = 64;
constexpr char kMetadataKey[] = "__metadata__";

struct TypeName {
  DataType type;
  std::string_view name;
  uint64_t bytes;
};
constexpr std::array<TypeName, 8> kTypes = {{{DataType::kF32, "F32", 4},
                                             {DataType::kI32, "I32", 4},
                                             {DataType::kI64, "I64", 8},
                                             {DataType::kU8, "U8", 1},
                                             {DataType::kF16, "F16", 2},
                                             {DataType::kBF16, "BF16", 2},
                                             {DataType::kF64, "F64", 8},
                                             {DataType::kBool, "BOOL", 1}}};

absl::Status Invalid(std::string_view what) {
  return base::InvalidArgument("SAFETENSORS_INVALID",
                               fmt::format("not a valid safetensors file: {}", what));
}

const TypeName& NameOf(DataType type) { return kTypes[static_cast<size_t>(type)]; }

// Bytes of a tensor; false when the product does not fit 63 bits.
bool DataBytes(DataType type, std::span<const int64_t> shape, uint64_t* bytes) {
  constexpr uint64_t kMax = std::numeric_limits<int64_t>::max();
  *bytes = BytesPerElement(type);
  for (const int64_t dimension : shape) {
    if (dimension < 0 || (dimension > 0 && *bytes > kMax / static_cast<uint64_t>(dimension))) {
      return false;
    }
    *bytes *= static_cast<uint64_t>(dimension);
  }
  return true;
}

// Watches the parser: refuses what a header never has before it takes memory or hides an entry.
class HeaderGuard {
 public:
  bool operator()(int depth, Json::parse_event_t event, Json& value) {
    switch (event) {
      case Json::parse_event_t::object_start:
        keys_.resize(static_cast<size_t>(depth) + 1);
        keys_.back().clear();
        ok_ = ok_ && depth <= 1;
        break;
      case Json::parse_event_t::array_start:
        elements_ = 0;
        ok_ = ok_ && depth == 2;
        break;
      case Json::parse_event_t::key:
        // Keys are reported at the depth of their values: one more than their object's.
        ok_ = ok_ && keys_[static_cast<size_t>(depth) - 1].insert(value.get<std::string>()).second;
        break;
      case Json::parse_event_t::value:
        ok_ = ok_ && (depth < 3 || ++elements_ <= kMaxRank);
        break;
      default:
        break;
    }
    return ok_;
  }
  bool ok() const { return ok_; }

 private:
  bool ok_ = true;
  int elements_ = 0;
  std::vector<std::set<std::string>> keys_;
};

bool ReadNaturals(const Json& array, std::vector<int64_t>* out) {
  if (!array.is_array()) {
    return false;
  }
  for (const Json& element : array) {
    if (!element.is_number_unsigned() ||
        element.get<uint64_t>() > std::numeric_limits<int64_t>::max()) {
      return false;
    }
    out->push_back(static_cast<int64_t>(element.get<uint64_t>()));
  }
  return true;
}

absl::StatusOr<TensorInfo> ParseTensor(const std::string& name, const Json& entry,
                                       uint64_t data_begin, uint64_t data_bytes) {
  const bool fields = entry.is_object() && entry.size() == 3 && entry.contains("dtype") &&
                      entry.contains("shape") && entry.contains("data_offsets");
  if (!fields || !entry["dtype"].is_string()) {
    return Invalid(fmt::format("tensor '{}' must have dtype, shape and data_offsets only", name));
  }
  const std::string& type_name = entry["dtype"].get_ref<const std::string&>();
  const auto type = std::find_if(kTypes.begin(), kTypes.end(),
                                 [&](const TypeName& known) { return known.name == type_name; });
  if (type == kTypes.end()) {
    return Invalid(fmt::format(
        "tensor '{}' has dtype '{}'; F32, F16, BF16, F64, I32, I64, U8 and BOOL are known; "
        "convert it to one of these",
        name, type_name));
  }
  TensorInfo info;
  info.name = name;
  info.type = type->type;
  std::vector<int64_t> range;
  if (!ReadNaturals(entry["shape"], &info.shape) ||
      !DataBytes(info.type, info.shape, &info.bytes)) {
    return Invalid(fmt::format("the shape of tensor '{}' is not a list of sizes", name));
  }
  if (!ReadNaturals(entry["data_offsets"], &range) || range.size() != 2 || range[0] > range[1] ||
      static_cast<uint64_t>(range[1]) > data_bytes) {
    return Invalid(fmt::format("data_offsets of tensor '{}' must be a range within {} bytes", name,
                               data_bytes));
  }
  if (static_cast<uint64_t>(range[1] - range[0]) != info.bytes) {
    return Invalid(fmt::format("tensor '{}' needs {} bytes, its data_offsets span {}", name,
                               info.bytes, range[1] - range[0]));
  }
  info.begin = data_begin + static_cast<uint64_t>(range[0]);
  return info;
}

absl::Status ParseMetadata(const Json& entry, std::map<std::string, std::string>* metadata) {
  if (!entry.is_object()) {
    return Invalid("__metadata__ must be an object of strings");
  }
  for (const auto& [key, value] : entry.items()) {
    if (!value.is_string()) {
      return Invalid(fmt::format("__metadata__ entry '{}' must be a string", key));
    }
    (*metadata)[key] = value.get<std::string>();
  }
  return absl::OkStatus();
}

// Sorts by place and checks that the data is covered exactly once.
absl::Status CheckCoverage(uint64_t data_begin, uint64_t file_bytes,
                           std::vector<TensorInfo>* tensors) {
  std::sort(tensors->begin(), tensors->end(), [](const TensorInfo& a, const TensorInfo& b) {
    return std::tie(a.begin, a.bytes, a.name) < std::tie(b.begin, b.bytes, b.name);
  });
  uint64_t end = data_begin;
  for (const TensorInfo& tensor : *tensors) {
    if (tensor.begin != end) {
      return Invalid(fmt::format("the data of tensor '{}' begins at byte {}, expected {}",
                                 tensor.name, tensor.begin, end));
    }
    end += tensor.bytes;
  }
  if (end != file_bytes) {
    return Invalid(fmt::format("tensors end at byte {}, the file at {}", end, file_bytes));
  }
  return absl::OkStatus();
}

// The header's length from the first 8 bytes.
absl::StatusOr<uint64_t> HeaderLength(std::string_view bytes, uint64_t file_bytes,
                                      uint64_t max_header_bytes) {
  uint64_t length = 0;
  if (bytes.size() < kLengthBytes || file_bytes < kLengthBytes) {
    return Invalid(fmt::format("{} bytes are too few", file_bytes));
  }
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > max_header_bytes || length > file_bytes - kLengthBytes) {
    return Invalid(fmt::format("the header's length {} exceeds the file or the limit of {}", length,
                               max_header_bytes));
  }
  return length;
}

}  // namespace

uint64_t BytesPerElement(DataType type) { return NameOf(type).bytes; }

std::string_view DataTypeName(DataType type) { return NameOf(type).name; }

const TensorInfo* SafetensorsHeader::Find(std::string_view name) const {
  const auto found = std::find_if(tensors.begin(), tensors.end(),
                                  [&](const TensorInfo& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

absl::StatusOr<std::string> EncodeSafetensorsHeader(
    const std::map<std::string, std::string>& metadata, std::span<const TensorInfo> tensors) {
  Json header = Json::object();
  if (!metadata.empty()) {
    header[kMetadataKey] = metadata;
  }
  uint64_t offset = 0;
  for (const TensorInfo& tensor : tensors) {
    uint64_t bytes = 0;
    if (header.contains(tensor.name) || tensor.name == kMetadataKey ||
        !DataBytes(tensor.type, tensor.shape, &bytes)) {
      return Invalid(
          fmt::format("tensor '{}' has a name in use or an impossible shape", tensor.name));
    }
    header[tensor.name] = {{"dtype", std::string(NameOf(tensor.type).name)},
                           {"shape", tensor.shape},
                           {"data_offsets", {offset, offset + bytes}}};
    offset += bytes;
  }
  std::string json = header.dump(-1, ' ', false, Json::error_handler_t::replace);
  json.resize((json.size() + 7) / 8 * 8, ' ');
  if (json.size() > kMaxSafetensorsHeaderBytes) {
    return Invalid(fmt::format("a header of {} bytes is too large", json.size()));
  }
  const uint64_t length = json.size();
  std::string bytes(kLengthBytes, '\0');
  std::memcpy(bytes.data(), &length, kLengthBytes);
  return bytes + json;
}

absl::StatusOr<SafetensorsHeader> DecodeSafetensorsHeader(std::string_view bytes,
                                                          uint64_t file_bytes) {
  ESPALIER_ASSIGN_OR_RETURN(const uint64_t length,
                            HeaderLength(bytes, file_bytes, kMaxSafetensorsHeaderBytes));
  if (bytes.size() - kLengthBytes < length) {
    return Invalid("the header is cut off");
  }
  const std::string_view text = bytes.substr(kLengthBytes, length);
  HeaderGuard guard;
  const Json json = Json::parse(text.begin(), text.end(), std::ref(guard), false);
  if (!guard.ok() || !json.is_object() || !text.starts_with('{')) {
    return Invalid("the header is not a JSON object of tensors with distinct names");
  }
  SafetensorsHeader header;
  const uint64_t data_begin = kLengthBytes + length;
  for (const auto& [name, entry] : json.items()) {
    if (name == kMetadataKey) {
      ESPALIER_RETURN_IF_ERROR(ParseMetadata(entry, &header.metadata));
      continue;
    }
    ESPALIER_ASSIGN_OR_RETURN(TensorInfo tensor,
                              ParseTensor(name, entry, data_begin, file_bytes - data_begin));
    header.tensors.push_back(std::move(tensor));
  }
  ESPALIER_RETURN_IF_ERROR(CheckCoverage(data_begin, file_bytes, &header.tensors));
  return header;
}

absl::StatusOr<SafetensorsHeader> ReadSafetensorsHeader(const io::ReadableFile& file,
                                                        uint64_t max_header_bytes) {
  std::string bytes(std::min<uint64_t>(kLengthBytes, file.size()), '\0');
  ESPALIER_RETURN_IF_ERROR(file.ReadAt(0, bytes.data(), bytes.size()));
  ESPALIER_ASSIGN_OR_RETURN(const uint64_t length,
                            HeaderLength(bytes, file.size(), max_header_bytes));
  bytes.resize(kLengthBytes + length);
  ESPALIER_RETURN_IF_ERROR(file.ReadAt(kLengthBytes, bytes.data() + kLengthBytes, length));
  return DecodeSafetensorsHeader(bytes, file.size());
}

}  // namespace espalier::wire
