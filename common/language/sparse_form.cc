#include "common/language/sparse_form.h"

#include <fmt/format.h>

#include <bit>
#include <utility>
#include <vector>

#include "common/base/status.h"

namespace espalier::language {
namespace {

absl::Status Invalid(const std::string& what) {
  return base::InvalidArgument("TENSOR_SPARSE_INVALID", what);
}

}  // namespace

absl::StatusOr<tensor::Topology> TopologyFromBitmap(std::string_view bitmap, int64_t rows,
                                                    int64_t cols, int64_t values) {
  const int64_t positions = rows * cols;
  if (static_cast<int64_t>(bitmap.size()) != (positions + 7) / 8) {
    return Invalid(fmt::format("expected a bitmap of {} bytes for {} × {} positions, found {}",
                               (positions + 7) / 8, rows, cols, bitmap.size()));
  }
  int64_t set = 0;
  for (const char byte : bitmap) set += std::popcount(static_cast<unsigned char>(byte));
  if (set != values) {
    return Invalid(
        fmt::format("expected as many values as the {} bits of the bitmap, found {}", set, values));
  }
  std::vector<int32_t> offsets = {0};
  std::vector<int32_t> columns;
  columns.reserve(static_cast<size_t>(set));
  int64_t position = 0;
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t col = 0; col < cols; ++col, ++position) {
      const auto byte = static_cast<unsigned char>(bitmap[static_cast<size_t>(position / 8)]);
      if (((byte >> (position % 8)) & 1) != 0) columns.push_back(static_cast<int32_t>(col));
    }
    offsets.push_back(static_cast<int32_t>(columns.size()));
  }
  if (static_cast<int64_t>(columns.size()) != set) {
    return Invalid(
        fmt::format("expected zero bits after the last of {} positions, found others", positions));
  }
  return tensor::Topology::FromCsr(rows, cols, std::move(offsets), std::move(columns));
}

std::string BitmapOf(const tensor::Topology& topology) {
  std::string bitmap(static_cast<size_t>((topology.size() + 7) / 8), '\0');
  for (int64_t row = 0; row < topology.rows(); ++row) {
    const auto offsets = topology.row_offsets();
    for (int32_t k = offsets[row]; k < offsets[row + 1]; ++k) {
      const int64_t position = row * topology.cols() + topology.columns()[k];
      char& byte = bitmap[static_cast<size_t>(position / 8)];
      byte = static_cast<char>(static_cast<unsigned char>(byte) | (1u << (position % 8)));
    }
  }
  return bitmap;
}

}  // namespace espalier::language
