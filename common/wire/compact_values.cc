#include "common/wire/compact_values.h"

#include <fmt/core.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "common/base/rng.h"
#include "common/base/status.h"

namespace espalier::wire {
namespace {

constexpr int64_t kBlock = 256;
constexpr int kMostSteps = 127;
// The scale has 17 significant bits: these of float32's 23 are 0.
constexpr uint32_t kScaleRest = (1U << 7) - 1;
// Blocks of smaller magnitudes are all 0, so that no scale is subnormal.
constexpr float kLeastMagnitude = 0x1p-100F;
constexpr int kHalfBits = 16;
constexpr uint32_t kHalfMask = 0xFFFF;
constexpr uint32_t kLargestHalf = 0x7F7F;  // the largest finite bfloat16

static_assert(std::endian::native == std::endian::little);

// How a value between two that the type has is rounded: to the nearest, or by the next number of a
// stream.
class Rounding {
 public:
  Rounding() = default;
  explicit Rounding(uint64_t key) : rng_(key), random_(true) {}

  // The bfloat16, as its bits.
  uint16_t Half(float value) {
    const auto bits = std::bit_cast<uint32_t>(value);
    const uint32_t to_even = (kHalfMask >> 1) + ((bits >> kHalfBits) & 1);
    const uint32_t rounded = (bits + (random_ ? rng_.Next32() >> kHalfBits : to_even)) >> kHalfBits;
    // Rounding may carry into the exponent of infinity.
    const uint32_t magnitude = std::min(rounded & 0x7FFF, kLargestHalf);
    return static_cast<uint16_t>((rounded & 0x8000) | magnitude);
  }

  // The whole number of scales.
  int8_t Steps(float value, float scale) {
    const double draw = random_ ? rng_.Next32() * 0x1p-32 : 0;
    if (scale == 0) return 0;
    const double steps = static_cast<double>(value) / scale;
    const double whole = random_ ? std::floor(steps + draw) : std::nearbyint(steps);
    return static_cast<int8_t>(std::clamp<double>(whole, -kMostSteps, kMostSteps));
  }

 private:
  base::Rng rng_{0};
  bool random_ = false;
};

float ScaleOf(std::span<const float> block) {
  float largest = 0;
  for (const float value : block) largest = std::max(largest, std::abs(value));
  if (!(largest >= kLeastMagnitude)) return 0;
  const auto bits =
      std::bit_cast<uint32_t>(static_cast<float>(static_cast<double>(largest) / kMostSteps));
  const auto below = std::bit_cast<float>(bits & ~kScaleRest);
  if (static_cast<double>(below) * kMostSteps >= largest) return below;
  const auto above = std::bit_cast<float>((bits & ~kScaleRest) + kScaleRest + 1);
  return std::isfinite(above * kMostSteps) ? above : below;
}

float FromHalf(uint16_t half) {
  return std::bit_cast<float>(static_cast<uint32_t>(half) << kHalfBits);
}

template <typename T>
void Put(const T& value, std::string& bytes) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

template <typename T>
T Take(std::string_view& bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  bytes.remove_prefix(sizeof(T));
  return value;
}

uint64_t BytesOf(v1::SectionType type, bool buffer, int64_t count) {
  const auto values = static_cast<uint64_t>(count);
  if (buffer) return values * sizeof(float);
  if (type == v1::SECTION_TYPE_BF16) return values * sizeof(uint16_t);
  return values + (values + kBlock - 1) / kBlock * sizeof(float);
}

// One tensor.
void PutValues(v1::SectionType type, bool buffer, std::span<const float> values, Rounding& rounding,
               std::string& bytes) {
  if (buffer) {
    bytes.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  } else if (type == v1::SECTION_TYPE_BF16) {
    for (const float value : values) Put(rounding.Half(value), bytes);
  } else {
    for (; !values.empty(); values = values.subspan(std::min<size_t>(kBlock, values.size()))) {
      const std::span<const float> block = values.first(std::min<size_t>(kBlock, values.size()));
      const float scale = ScaleOf(block);
      Put(scale, bytes);
      for (const float value : block) Put(rounding.Steps(value, scale), bytes);
    }
  }
}

absl::Status TakeValues(v1::SectionType type, bool buffer, std::string_view& bytes,
                        std::span<float> values) {
  if (buffer) {
    std::memcpy(values.data(), bytes.data(), values.size_bytes());
    bytes.remove_prefix(values.size_bytes());
  } else if (type == v1::SECTION_TYPE_BF16) {
    for (float& value : values) value = FromHalf(Take<uint16_t>(bytes));
  } else {
    for (; !values.empty(); values = values.subspan(std::min<size_t>(kBlock, values.size()))) {
      const auto scale = Take<float>(bytes);
      if (!(scale >= 0 && std::isfinite(scale * kMostSteps))) {
        return base::InvalidArgument(
            "NON_FINITE", fmt::format("expected a scale of 0 or more of which {} times is finite, "
                                      "found {}",
                                      kMostSteps, scale));
      }
      for (float& value : values.first(std::min<size_t>(kBlock, values.size()))) {
        value = static_cast<float>(Take<int8_t>(bytes)) * scale;
      }
    }
  }
  return absl::OkStatus();
}

std::span<const float> Of(const tensor::ModelTopology& topology, size_t tensor,
                          std::span<const float> values) {
  return values.subspan(static_cast<size_t>(topology.offset(tensor)),
                        static_cast<size_t>(topology.stored(tensor)));
}

std::string Encode(const tensor::ModelTopology& topology, v1::SectionType type,
                   std::span<const float> values, std::span<const float> buffers,
                   Rounding rounding) {
  std::string bytes;
  bytes.reserve(CompactBytes(topology, type));
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    const bool buffer = topology.layout()[i].buffer;
    PutValues(type, buffer, Of(topology, i, buffer ? buffers : values), rounding, bytes);
  }
  return bytes;
}

}  // namespace

v1::SectionType SectionTypeOf(v1::Wire::Values values) {
  if (values == v1::Wire::VALUES_BF16) return v1::SECTION_TYPE_BF16;
  return values == v1::Wire::VALUES_INT8 ? v1::SECTION_TYPE_INT8 : v1::SECTION_TYPE_F32;
}

bool IsCompact(v1::SectionType type) {
  return type == v1::SECTION_TYPE_BF16 || type == v1::SECTION_TYPE_INT8;
}

uint64_t CompactBytes(const tensor::ModelTopology& topology, v1::SectionType type) {
  uint64_t bytes = 0;
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    bytes += BytesOf(type, topology.layout()[i].buffer, topology.stored(i));
  }
  return bytes;
}

void RoundToNearest(const tensor::ModelTopology& topology, v1::SectionType type,
                    std::span<float> values) {
  const std::string bytes = EncodeCompact(topology, type, values);
  // What was just written can be read.
  if (const auto rounded = DecodeCompact(topology, type, bytes); rounded.ok()) {
    std::ranges::copy(*rounded, values.begin());
  }
}

std::string EncodeCompact(const tensor::ModelTopology& topology, v1::SectionType type,
                          std::span<const float> values) {
  return Encode(topology, type, values, values, Rounding());
}

absl::StatusOr<std::vector<float>> DecodeCompact(const tensor::ModelTopology& topology,
                                                 v1::SectionType type, std::string_view bytes) {
  if (bytes.size() != CompactBytes(topology, type)) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("expected {} bytes for {} values, found {}", CompactBytes(topology, type),
                    topology.total_stored(), bytes.size()));
  }
  std::vector<float> values(static_cast<size_t>(topology.total_stored()));
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    const auto begin = static_cast<size_t>(topology.offset(i));
    ESPALIER_RETURN_IF_ERROR(
        TakeValues(type, topology.layout()[i].buffer, bytes,
                   std::span(values).subspan(begin, static_cast<size_t>(topology.stored(i)))));
  }
  return values;
}

std::string EncodeDifferences(const tensor::ModelTopology& topology, v1::SectionType type,
                              std::span<const float> values, std::span<const float> base,
                              uint64_t key) {
  std::vector<float> differences(values.size());
  for (size_t i = 0; i < values.size(); ++i) differences[i] = values[i] - base[i];
  return Encode(topology, type, differences, values, Rounding(key));
}

absl::StatusOr<std::vector<float>> DecodeDifferences(const tensor::ModelTopology& topology,
                                                     v1::SectionType type, std::string_view bytes,
                                                     std::span<const float> base) {
  ESPALIER_ASSIGN_OR_RETURN(std::vector<float> values, DecodeCompact(topology, type, bytes));
  for (size_t i = 0; i < topology.num_tensors(); ++i) {
    if (topology.layout()[i].buffer) continue;
    const auto begin = static_cast<size_t>(topology.offset(i));
    for (size_t k = begin; k < begin + static_cast<size_t>(topology.stored(i)); ++k) {
      values[k] += base[k];
    }
  }
  return values;
}

}  // namespace espalier::wire
