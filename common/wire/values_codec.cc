#include "common/wire/values_codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "common/wire/bit_stream.h"
#include "common/wire/index_set.h"

namespace espalier::wire {
namespace {

void AppendUint32(uint32_t value, std::string* out) {
  out->append(reinterpret_cast<const char*>(&value), sizeof value);
}

absl::Status Invalid(std::string_view what) {
  return base::InvalidArgument("SCORES_INVALID", fmt::format("score lists refused: {}", what));
}

absl::Status NonFinite() {
  return base::InvalidArgument("NON_FINITE",
                               "expected finite numbers, found an infinite one or NaN; lower the "
                               "learning rate or check the data");
}

// Takes bytes from the front of a string.
class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : bytes_(bytes) {}

  bool done() const { return bytes_.empty(); }
  bool Take(uint64_t size, std::string_view* out) {
    if (size > bytes_.size()) {
      return false;
    }
    *out = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return true;
  }
  bool TakeUint32(uint32_t* out) {
    std::string_view bytes;
    if (!Take(sizeof *out, &bytes)) {
      return false;
    }
    std::memcpy(out, bytes.data(), sizeof *out);
    return true;
  }

 private:
  std::string_view bytes_;
};

std::vector<float> CopyValues(std::string_view bytes) {
  std::vector<float> values(bytes.size() / sizeof(float));
  if (!values.empty()) {
    std::memcpy(values.data(), bytes.data(), bytes.size());
  }
  return values;
}

absl::StatusOr<TensorScores> DecodeTensorScores(ByteReader& reader, const tensor::TensorSpec& spec,
                                                int64_t max_count) {
  uint32_t set_bytes = 0;
  std::string_view bytes;
  if (!reader.TakeUint32(&set_bytes) || !reader.Take(set_bytes, &bytes)) {
    return Invalid(fmt::format("cut off in the positions of {}", spec.name));
  }
  TensorScores scores;
  if (set_bytes == 0) {
    return scores;
  }
  v1::IndexSet set;
  if (bytes.size() > std::numeric_limits<int>::max() ||
      !set.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) {
    return Invalid(fmt::format("the positions of {} are not an IndexSet", spec.name));
  }
  ESPALIER_ASSIGN_OR_RETURN(scores.positions,
                            DecodeIndexSet(set, static_cast<uint64_t>(spec.size()),
                                           static_cast<uint64_t>(std::max<int64_t>(0, max_count))));
  if (!reader.Take(scores.positions.size() * sizeof(float), &bytes)) {
    return Invalid(fmt::format("cut off in the {} values of {}", set.count(), spec.name));
  }
  scores.values = CopyValues(bytes);
  if (!AllFinite(scores.values)) {
    return base::Annotate(NonFinite(), fmt::format("scores of {}", spec.name));
  }
  return scores;
}

}  // namespace

std::string_view ValuesAsBytes(std::span<const float> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size_bytes()};
}

absl::StatusOr<std::vector<float>> DecodeValues(std::string_view bytes, uint64_t count) {
  if (bytes.size() % sizeof(float) != 0 || bytes.size() / sizeof(float) != count) {
    return base::InvalidArgument(
        "SHAPE_MISMATCH",
        fmt::format("expected {} values of 4 bytes, found {} bytes", count, bytes.size()));
  }
  std::vector<float> values = CopyValues(bytes);
  if (!AllFinite(values)) {
    return NonFinite();
  }
  return values;
}

bool AllFinite(std::span<const float> values) {
  // Infinities and NaNs are the values whose exponent bits are all ones. Blocks let the compiler
  // use vectors inside and still stop early.
  constexpr size_t kBlock = 4096;
  constexpr uint32_t kExponent = 0x7F800000u;
  for (size_t begin = 0; begin < values.size(); begin += kBlock) {
    const std::span<const float> block =
        values.subspan(begin, std::min(kBlock, values.size() - begin));
    uint32_t found = 0;
    for (const float value : block) {
      found |= static_cast<uint32_t>((std::bit_cast<uint32_t>(value) & kExponent) == kExponent);
    }
    if (found != 0) {
      return false;
    }
  }
  return true;
}

std::string EncodeScores(std::span<const TensorScores> scores, const tensor::ModelLayout& layout) {
  ESPALIER_CHECK(scores.size() == layout.size(), "one score list per tensor is needed");
  std::string bytes;
  AppendUint32(static_cast<uint32_t>(scores.size()), &bytes);
  for (size_t i = 0; i < scores.size(); ++i) {
    const TensorScores& list = scores[i];
    ESPALIER_CHECK(list.positions.size() == list.values.size(), "one value per position is needed");
    std::string set;
    if (!list.positions.empty()) {
      set = EncodeIndexSet(list.positions, static_cast<uint64_t>(layout[i].size()))
                .SerializeAsString();
    }
    AppendUint32(static_cast<uint32_t>(set.size()), &bytes);
    bytes += set;
    bytes += ValuesAsBytes(list.values);
  }
  return bytes;
}

absl::StatusOr<std::vector<TensorScores>> DecodeScores(std::string_view bytes,
                                                       const tensor::ModelLayout& layout,
                                                       std::span<const int64_t> max_counts) {
  ESPALIER_CHECK(max_counts.size() == layout.size(), "one limit per tensor is needed");
  ByteReader reader(bytes);
  uint32_t tensors = 0;
  if (!reader.TakeUint32(&tensors) || tensors != layout.size()) {
    return Invalid(fmt::format("expected lists of {} tensors, found {}", layout.size(), tensors));
  }
  std::vector<TensorScores> all;
  all.reserve(layout.size());
  for (size_t i = 0; i < layout.size(); ++i) {
    ESPALIER_ASSIGN_OR_RETURN(TensorScores scores,
                              DecodeTensorScores(reader, layout[i], max_counts[i]));
    all.push_back(std::move(scores));
  }
  if (!reader.done()) {
    return Invalid("bytes follow the last list");
  }
  return all;
}

}  // namespace espalier::wire
