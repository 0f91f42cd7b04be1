#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>
#include <optional>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/readers.h"

namespace espalier::worker::data {
namespace {

constexpr size_t kMaxHeaderBytes = 64 * 1024;
constexpr int64_t kMaxValues = int64_t{1} << 46;

absl::Status BadHeader(const ByteStream& stream, std::string expected, std::string_view found) {
  return DatasetInvalid(
      stream.name(),
      {"", std::move(expected), Quote(found),
       "write it with numpy.save(file, numpy.ascontiguousarray(a)) where a has dtype "
       "uint8, int32, int64, float32 or float64"});
}

// The text after "'key':" in the header's dictionary.
std::string_view ValueOf(std::string_view header, std::string_view key) {
  const size_t at = header.find(fmt::format("'{}'", key));
  if (at == std::string_view::npos) return {};
  const size_t colon = header.find(':', at);
  if (colon == std::string_view::npos) return {};
  const size_t begin = header.find_first_not_of(' ', colon + 1);
  return begin == std::string_view::npos ? std::string_view() : header.substr(begin);
}

// "(60000, 784)" and "(60000,)"; nullopt when malformed or too large.
std::optional<std::vector<int64_t>> ParseShape(std::string_view text) {
  const size_t close = text.find(')');
  if (text.empty() || text[0] != '(' || close == std::string_view::npos) return std::nullopt;
  std::vector<int64_t> dims;
  int64_t values = 1;
  const char* at = text.data() + 1;
  const char* end = text.data() + close;
  while (at < end) {
    if (*at == ' ' || *at == ',') {
      ++at;
      continue;
    }
    int64_t dim = 0;
    const auto [next, error] = std::from_chars(at, end, dim);
    if (error != std::errc() || dim < 1 || dim > kMaxValues / values) return std::nullopt;
    values *= dim;
    dims.push_back(dim);
    at = next;
  }
  if (dims.empty()) return std::nullopt;
  return dims;
}

absl::StatusOr<std::string> ReadHeaderText(ByteStream& stream) {
  std::array<uint8_t, 8> start{};
  ESPALIER_RETURN_IF_ERROR(stream.ReadExactly(start.data(), start.size(), "a .npy header"));
  if (std::memcmp(start.data(), "\x93NUMPY", 6) != 0 || start[6] < 1 || start[6] > 3) {
    return BadHeader(stream, "a .npy file of version 1 to 3",
                     std::string_view(reinterpret_cast<const char*>(start.data()), start.size()));
  }
  std::array<uint8_t, 4> length{};
  const size_t length_bytes = start[6] == 1 ? 2 : 4;
  ESPALIER_RETURN_IF_ERROR(stream.ReadExactly(length.data(), length_bytes, "a .npy header"));
  const size_t size =
      length[0] | (size_t{length[1]} << 8) | (size_t{length[2]} << 16) | (size_t{length[3]} << 24);
  if (size > kMaxHeaderBytes) {
    return BadHeader(stream, fmt::format("a header of at most {} bytes", kMaxHeaderBytes),
                     std::to_string(size));
  }
  std::string text(size, '\0');
  ESPALIER_RETURN_IF_ERROR(stream.ReadExactly(text.data(), size, "a .npy header"));
  return text;
}

// The value at `bytes` (little-endian, as this machine).
template <typename T>
T Load(const uint8_t* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof(T));
  return value;
}

double LoadNumber(const NpyHeader& header, const uint8_t* bytes) {
  if (header.kind == 'u') return *bytes;
  if (header.kind == 'f') return header.width == 4 ? Load<float>(bytes) : Load<double>(bytes);
  return header.width == 4 ? Load<int32_t>(bytes) : static_cast<double>(Load<int64_t>(bytes));
}

// Integers may be stored as bytes; floating-point files are float32 whatever their values.
absl::Status ReadNumberRows(ByteStream& stream, const NpyHeader& header, DatasetBuilder& builder) {
  const auto features = static_cast<size_t>(header.features());
  const auto width = static_cast<size_t>(header.width);
  std::vector<uint8_t> raw;
  std::vector<float> values;
  for (int64_t row = 0; row < header.rows(); ++row) {
    // Grown here, after rows were seen to exist, not by the header's word alone.
    constexpr size_t kStep = 1 << 20;
    raw.resize(std::min(features * width, kStep));
    for (size_t have = 0; have < features * width;) {
      const size_t wanted = std::min(kStep, features * width - have);
      raw.resize(std::max(raw.size(), have + wanted));
      ESPALIER_RETURN_IF_ERROR(
          stream.options().CheckMemory(stream.name(), static_cast<int64_t>(2 * raw.size())));
      ESPALIER_RETURN_IF_ERROR(stream.ReadRow(raw.data() + have, wanted, row));
      have += wanted;
    }
    values.resize(features);
    for (size_t i = 0; i < features; ++i) {
      values[i] = static_cast<float>(LoadNumber(header, raw.data() + i * width));
      if (std::isfinite(values[i])) continue;
      return DatasetInvalid(
          stream.name(),
          {fmt::format("row {}, column {}", row, i), "a finite number that fits into float32",
           fmt::format("{}", values[i]), "replace missing and infinite values before saving"});
    }
    if (header.kind == 'i') {
      ESPALIER_RETURN_IF_ERROR(builder.AppendRow(values));
    } else {
      ESPALIER_ASSIGN_OR_RETURN(float* const place, builder.AppendFloatRows(1));
      std::copy(values.begin(), values.end(), place);
    }
  }
  return absl::OkStatus();
}

// The rows of an array of which the header was read.
absl::Status ReadRows(ByteStream& stream, const NpyHeader& header, DatasetBuilder& builder) {
  const std::string shape = fmt::format("{} rows of {} values", header.rows(), header.features());
  ESPALIER_RETURN_IF_ERROR(header.kind == 'u' && builder.is_bytes()
                               ? ReadByteRows(stream, header.rows(), shape, builder)
                               : ReadNumberRows(stream, header, builder));
  return stream.ExpectEnd(shape);
}

// The rows of labels or values that are learned, in place of classes.
absl::Status ReadNpyTargets(ByteStream& stream, const NpyHeader& features, bool labels,
                            const std::string& features_file, DatasetBuilder& builder) {
  ESPALIER_ASSIGN_OR_RETURN(const NpyHeader header, ReadNpyHeader(stream));
  if (header.rows() != features.rows()) {
    return DatasetInvalid(
        stream.name(),
        {"", fmt::format("{} rows, as many as {} has", features.rows(), features_file),
         fmt::format("{}", header.rows()), "use features and labels of the same set"});
  }
  if (builder.num_targets() != 0 && builder.num_targets() != header.features()) {
    return DatasetInvalid(
        stream.name(),
        {"", fmt::format("{} columns as in the files before it", builder.num_targets()),
         fmt::format("{}", header.features()), "use training and test files made the same way"});
  }
  builder.SetTargets(header.features());
  const auto width = static_cast<size_t>(header.width);
  std::vector<uint8_t> raw(static_cast<size_t>(header.features()) * width);
  std::vector<float> values(static_cast<size_t>(header.features()));
  for (int64_t row = 0; row < header.rows(); ++row) {
    ESPALIER_RETURN_IF_ERROR(stream.ReadRow(raw.data(), raw.size(), row));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(LoadNumber(header, raw.data() + i * width));
      const bool fits = labels ? values[i] == 0 || values[i] == 1 : std::isfinite(values[i]);
      if (fits) continue;
      return DatasetInvalid(
          stream.name(),
          {fmt::format("row {}, column {}", row, i),
           labels ? "0 or 1, as data.target is labels" : "a finite number that fits into float32",
           fmt::format("{}", values[i]), "correct it before saving"});
    }
    builder.AppendLabel(0);
    builder.AppendTargets(values);
  }
  return stream.ExpectEnd(fmt::format("{} rows of {} values", header.rows(), header.features()));
}

}  // namespace

int64_t NpyHeader::features() const {
  int64_t product = 1;
  for (size_t i = 1; i < dims.size(); ++i) product *= dims[i];
  return product;
}

absl::StatusOr<NpyHeader> ReadNpyHeader(ByteStream& stream) {
  ESPALIER_ASSIGN_OR_RETURN(const std::string text, ReadHeaderText(stream));
  const std::string_view type = ValueOf(text, "descr").substr(0, 5);  // with both quotes
  NpyHeader header;
  if (type == "'|u1'") {
    header.kind = 'u';
  } else if (type == "'<i4'" || type == "'<i8'") {
    header.kind = 'i';
  } else if (type == "'<f4'" || type == "'<f8'") {
    header.kind = 'f';
  } else {
    return BadHeader(stream, "dtype |u1, <i4, <i8, <f4 or <f8", type);
  }
  header.width = type[3] - '0';
  if (!ValueOf(text, "fortran_order").starts_with("False")) {
    return BadHeader(stream, "C order ('fortran_order': False)",
                     ValueOf(text, "fortran_order").substr(0, 5));
  }
  const auto dims = ParseShape(ValueOf(text, "shape"));
  if (!dims.has_value()) {
    return BadHeader(stream, "a shape of one or more positive sizes", ValueOf(text, "shape"));
  }
  header.dims = *dims;
  return header;
}

absl::StatusOr<std::vector<int64_t>> ReadNpyIntegers(ByteStream& stream) {
  ESPALIER_ASSIGN_OR_RETURN(const NpyHeader header, ReadNpyHeader(stream));
  if (header.kind == 'f' || header.features() != 1) {
    return BadHeader(
        stream, "one integer per row (shape (n,), dtype |u1, <i4 or <i8)",
        fmt::format("{}{} with {} values per row", header.kind, header.width, header.features()));
  }
  std::vector<int64_t> values;
  std::array<uint8_t, 8> raw{};
  for (int64_t row = 0; row < header.rows(); ++row) {
    ESPALIER_RETURN_IF_ERROR(stream.ReadRow(raw.data(), static_cast<size_t>(header.width), row));
    ESPALIER_RETURN_IF_ERROR(stream.options().CheckMemory(stream.name(), row * kBytesPerInteger));
    values.push_back(header.width == 1   ? raw[0]
                     : header.width == 4 ? Load<int32_t>(raw.data())
                                         : Load<int64_t>(raw.data()));
  }
  ESPALIER_RETURN_IF_ERROR(stream.ExpectEnd(fmt::format("{} values", header.rows())));
  return values;
}

absl::Status ReadNpyRows(ByteStream& stream, DatasetBuilder& builder) {
  ESPALIER_ASSIGN_OR_RETURN(const NpyHeader header, ReadNpyHeader(stream));
  ESPALIER_RETURN_IF_ERROR(builder.SetFeatures(header.features(), stream.name()));
  return ReadRows(stream, header, builder);
}

absl::Status ReadNpy(ByteStream& features, ByteStream& labels, DatasetBuilder& builder,
                     v1::DataSpec::Target target) {
  ESPALIER_ASSIGN_OR_RETURN(const NpyHeader header, ReadNpyHeader(features));
  ESPALIER_RETURN_IF_ERROR(builder.SetFeatures(header.features(), features.name()));
  const bool of_labels = target == v1::DataSpec::TARGET_LABELS;
  if (of_labels || target == v1::DataSpec::TARGET_VALUES) {
    ESPALIER_RETURN_IF_ERROR(ReadNpyTargets(labels, header, of_labels, features.name(), builder));
    return ReadRows(features, header, builder);
  }
  {
    ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> classes, ReadNpyIntegers(labels));
    ESPALIER_RETURN_IF_ERROR(
        AppendLabels(classes, header.rows(), labels.name(), features.name(), builder));
  }
  return ReadRows(features, header, builder);
}

}  // namespace espalier::worker::data
