#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/readers.h"

namespace espalier::worker::data {
namespace {

constexpr int64_t kMaxValues = int64_t{1} << 46;
constexpr size_t kQmnistWriterColumn = 2;

uint32_t BigEndian32(const uint8_t* bytes) {
  return (uint32_t{bytes[0]} << 24) | (uint32_t{bytes[1]} << 16) | (uint32_t{bytes[2]} << 8) |
         bytes[3];
}

std::string Shape(const IdxHeader& header) {
  std::string text;
  for (const int64_t dim : header.dims) text += (text.empty() ? "" : " x ") + std::to_string(dim);
  return text + " values";
}

absl::Status WrongKind(const ByteStream& stream, std::string expected, const IdxHeader& header) {
  return DatasetInvalid(
      stream.name(),
      {"", std::move(expected), fmt::format("type 0x{:02x} with {}", header.type, Shape(header)),
       "check that images and labels are not mixed up"});
}

// Calls visit(row) with each of the rows' bytes.
template <typename Visit>
absl::Status ForEachRow(ByteStream& stream, const IdxHeader& header, size_t row_bytes,
                        Visit visit) {
  std::vector<uint8_t> row(row_bytes);
  for (int64_t i = 0; i < header.rows(); ++i) {
    ESPALIER_RETURN_IF_ERROR(stream.ReadRow(row.data(), row_bytes, i));
    ESPALIER_RETURN_IF_ERROR(stream.options().CheckMemory(stream.name(), i * kBytesPerInteger));
    visit(row.data());
  }
  return stream.ExpectEnd(Shape(header));
}

}  // namespace

int64_t IdxHeader::features() const {
  int64_t product = 1;
  for (size_t i = 1; i < dims.size(); ++i) product *= dims[i];
  return product;
}

absl::StatusOr<IdxHeader> ReadIdxHeader(ByteStream& stream) {
  std::array<uint8_t, 4> magic{};
  ESPALIER_RETURN_IF_ERROR(stream.ReadExactly(magic.data(), magic.size(), "an IDX header"));
  IdxHeader header;
  header.type = magic[2];
  const int dims = magic[3];
  const bool known = header.type == kIdxByte || header.type == kIdxInt32;
  if (magic[0] != 0 || magic[1] != 0 || !known || dims < 1 || dims > 4) {
    return DatasetInvalid(
        stream.name(),
        {"", "an IDX file, which starts with 00 00 08 or 00 00 0c and 1 to 4 dimensions",
         fmt::format("{:02x} {:02x} {:02x} {:02x}", magic[0], magic[1], magic[2], magic[3]),
         "replace it by the original file"});
  }
  int64_t values = 1;
  for (int i = 0; i < dims; ++i) {
    std::array<uint8_t, 4> bytes{};
    ESPALIER_RETURN_IF_ERROR(stream.ReadExactly(bytes.data(), bytes.size(), "an IDX header"));
    header.dims.push_back(BigEndian32(bytes.data()));
    values = header.dims.back() > kMaxValues / values ? 0 : values * header.dims.back();
    if (values == 0) {
      return DatasetInvalid(
          stream.name(), {fmt::format("dimension {}", i), "a positive size that fits into memory",
                          std::to_string(header.dims.back()), "replace it by the original file"});
    }
  }
  return header;
}

absl::StatusOr<std::vector<int64_t>> ReadIdxLabels(ByteStream& stream) {
  ESPALIER_ASSIGN_OR_RETURN(const IdxHeader header, ReadIdxHeader(stream));
  if (header.type != kIdxByte || header.dims.size() != 1) {
    return WrongKind(stream, "labels: type 0x08 with one dimension", header);
  }
  std::vector<int64_t> labels;
  ESPALIER_RETURN_IF_ERROR(
      ForEachRow(stream, header, 1, [&](const uint8_t* row) { labels.push_back(row[0]); }));
  return labels;
}

absl::StatusOr<std::vector<int64_t>> ReadIdxGroups(ByteStream& stream) {
  ESPALIER_ASSIGN_OR_RETURN(const IdxHeader header, ReadIdxHeader(stream));
  const int64_t columns = header.features();
  const bool is_matrix = header.dims.size() == 2 && columns > int64_t{kQmnistWriterColumn};
  constexpr int64_t kMaxColumns = 1024;
  if ((header.dims.size() != 1 && !is_matrix) || columns > kMaxColumns) {
    return WrongKind(stream, "group ids: one dimension, or rows with the group in column 2",
                     header);
  }
  const size_t width = header.type == kIdxInt32 ? 4 : 1;
  const size_t place = is_matrix ? kQmnistWriterColumn * width : 0;
  std::vector<int64_t> groups;
  ESPALIER_RETURN_IF_ERROR(
      ForEachRow(stream, header, static_cast<size_t>(columns) * width, [&](const uint8_t* row) {
        const uint8_t* value = row + place;
        groups.push_back(width == 4 ? static_cast<int32_t>(BigEndian32(value)) : *value);
      }));
  return groups;
}

absl::Status ReadIdx(ByteStream& images, ByteStream& labels, DatasetBuilder& builder) {
  ESPALIER_ASSIGN_OR_RETURN(const IdxHeader header, ReadIdxHeader(images));
  if (header.type != kIdxByte || header.dims.size() < 2) {
    return WrongKind(images, "images: type 0x08 with two or more dimensions", header);
  }
  ESPALIER_RETURN_IF_ERROR(builder.SetFeatures(header.features(), images.name()));
  {
    ESPALIER_ASSIGN_OR_RETURN(const std::vector<int64_t> classes, ReadIdxLabels(labels));
    ESPALIER_RETURN_IF_ERROR(
        AppendLabels(classes, header.rows(), labels.name(), images.name(), builder));
  }
  ESPALIER_RETURN_IF_ERROR(ReadByteRows(images, header.rows(), Shape(header), builder));
  return images.ExpectEnd(Shape(header));
}

absl::Status ReadByteRows(ByteStream& stream, int64_t rows, const std::string& shape,
                          DatasetBuilder& builder) {
  const int64_t features = builder.features();
  const auto what = [&](int64_t first, int64_t count) {
    return fmt::format("rows {} to {} (the header declares {})", first, first + count - 1, shape);
  };
  const int64_t block = kReadBlockBytes / features;
  for (int64_t row = 0; row < rows && block > 0; row += block) {
    const int64_t count = std::min(block, rows - row);
    ESPALIER_ASSIGN_OR_RETURN(uint8_t* const place, builder.AppendByteRows(count));
    ESPALIER_RETURN_IF_ERROR(
        stream.ReadExactly(place, static_cast<size_t>(count * features), what(row, count)));
  }
  // A row longer than a block gets its place when its bytes were seen, not by the header's word.
  std::vector<uint8_t> bytes;
  for (int64_t row = 0; row < rows && block == 0; ++row) {
    for (int64_t have = 0; have < features; have += kReadBlockBytes) {
      const int64_t wanted = std::min(kReadBlockBytes, features - have);
      bytes.resize(static_cast<size_t>(have + wanted));
      ESPALIER_RETURN_IF_ERROR(stream.options().CheckMemory(stream.name(), 2 * (have + wanted)));
      ESPALIER_RETURN_IF_ERROR(
          stream.ReadExactly(bytes.data() + have, static_cast<size_t>(wanted), what(row, 1)));
    }
    ESPALIER_ASSIGN_OR_RETURN(uint8_t* const place, builder.AppendByteRows(1));
    std::copy(bytes.begin(), bytes.end(), place);
  }
  return absl::OkStatus();
}

}  // namespace espalier::worker::data
