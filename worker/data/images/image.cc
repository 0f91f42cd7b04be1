#include "worker/data/images/image.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/images/codecs.h"

namespace espalier::worker::data {
namespace {

enum class Kind { kPng, kJpeg };

// What other files are called that people put among images.
const char* OtherKind(std::string_view head) {
  if (head.starts_with("GIF8")) return "a GIF";
  if (head.starts_with("BM")) return "a BMP";
  if (head.starts_with("RIFF") && head.substr(0, 12).ends_with("WEBP")) return "a WebP";
  if (head.starts_with("II*") || head.starts_with("MM")) return "a TIFF";
  if (head.starts_with("\x1F\x8B")) return "a gzip file";
  if (head.starts_with("version https://git-lfs")) return "a pointer of Git LFS, not the file";
  return "something else";
}

absl::StatusOr<Kind> KindOf(const EncodedImage& file) {
  constexpr std::string_view kPngHead("\x89PNG\r\n\x1A\n", 8);
  constexpr std::string_view kJpegHead("\xFF\xD8\xFF", 3);
  const std::string_view head(reinterpret_cast<const char*>(file.bytes.data()), file.bytes.size());
  if (head.starts_with(kPngHead)) return Kind::kPng;
  if (head.starts_with(kJpegHead)) return Kind::kJpeg;
  return DatasetInvalid(
      file.name,
      {"", "a PNG or JPEG image", head.empty() ? "an empty file" : OtherKind(head),
       head.empty() ? "copy the file again, or remove it" : "convert it to PNG, or remove it"});
}

bool SwapsSides(int orientation) { return orientation >= 5; }

}  // namespace

std::string ImageDims::ToString() const {
  return fmt::format("{} × {} × {}", channels, height, width);
}

absl::Status CheckPixels(const EncodedImage& file, int64_t height, int64_t width,
                         int64_t bytes_per_pixel, const LoadOptions& options, int64_t held) {
  // Both libraries bound each side by 2^31, so the product does not overflow.
  if (height * width > kMostPixels) {
    return DatasetInvalid(
        file.name, {"", fmt::format("at most {} pixels", kMostPixels),
                    fmt::format("{} × {}", height, width), "make the image smaller, or remove it"});
  }
  return options.CheckMemory(file.name, held + height * width * bytes_per_pixel);
}

absl::Status BrokenImage(const EncodedImage& file, const char* kind, const char* reason) {
  return DatasetInvalid(file.name, {"", fmt::format("a complete {} image", kind), Quote(reason),
                                    "copy the file again, or remove it"});
}

int ExifOrientation(std::span<const uint8_t> tiff) {
  constexpr size_t kHead = 8;
  constexpr size_t kEntry = 12;
  constexpr uint32_t kTag = 0x0112;
  if (tiff.size() < kHead || tiff[0] != tiff[1] || (tiff[0] != 'I' && tiff[0] != 'M')) return 1;
  const bool little = tiff[0] == 'I';
  // Bytes beyond the end are zero.
  const auto number = [&](size_t at, size_t bytes) {
    uint32_t value = 0;
    for (size_t i = 0; i < bytes; ++i) {
      const size_t place = at + (little ? bytes - 1 - i : i);
      value = value << 8 | (place < tiff.size() ? tiff[place] : 0U);
    }
    return value;
  };
  const size_t directory = number(4, 4);
  if (directory > tiff.size()) return 1;
  const size_t entries = number(directory, 2);
  for (size_t i = 0; i < entries; ++i) {
    const size_t entry = directory + 2 + i * kEntry;
    if (number(entry, 2) != kTag) continue;
    const uint32_t value = number(entry + kHead, 2);
    return value >= 1 && value <= 8 ? static_cast<int>(value) : 1;
  }
  return 1;
}

Image Upright(Image image, int orientation) {
  if (orientation == 1) return image;
  const ImageDims from = image.dims;
  Image turned;
  turned.dims = from;
  const bool swap = SwapsSides(orientation);
  if (swap) std::swap(turned.dims.height, turned.dims.width);
  turned.values.resize(image.values.size());
  // Whether stored rows and columns are shown from the last to the first.
  const bool flip_rows =
      orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const bool flip_columns =
      orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  uint8_t* out = turned.values.data();
  for (int64_t y = 0; y < turned.dims.height; ++y) {
    for (int64_t x = 0; x < turned.dims.width; ++x) {
      const int64_t row = swap ? x : y;
      const int64_t column = swap ? y : x;
      const int64_t place = (flip_rows ? from.height - 1 - row : row) * from.width +
                            (flip_columns ? from.width - 1 - column : column);
      out = std::copy_n(image.values.data() + place * from.channels, from.channels, out);
    }
  }
  return turned;
}

absl::StatusOr<ImageDims> ReadImageDims(const EncodedImage& file, const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const Kind kind, KindOf(file));
  absl::StatusOr<ImageHead> head = kind == Kind::kPng ? ReadPngHead(file) : ReadJpegHead(file);
  if (!head.ok()) return head.status();
  ESPALIER_RETURN_IF_ERROR(CheckPixels(file, head->dims.height, head->dims.width, 0, options, 0));
  if (SwapsSides(head->orientation)) std::swap(head->dims.height, head->dims.width);
  return head->dims;
}

absl::StatusOr<Image> DecodeImage(const EncodedImage& file, const LoadOptions& options,
                                  int64_t held) {
  ESPALIER_ASSIGN_OR_RETURN(const Kind kind, KindOf(file));
  return kind == Kind::kPng ? DecodePng(file, options, held) : DecodeJpeg(file, options, held);
}

}  // namespace espalier::worker::data
