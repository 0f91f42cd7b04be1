// Image: one picture in memory, and its decoders. Internal to worker/data.
//
// Kinds:       PNG (libpng) and JPEG (libjpeg-turbo), told by a file's first bytes, not its name.
// Values:      bytes. Grey has 1 channel, everything else 3: red, green, blue. 16 bits become the
//              nearest 8, fewer are spread over 0..255, palettes become colours. What is
//              transparent is blended over black. Gamma and colour profiles do not matter. CMYK is
//              refused.
// Orientation: as EXIF says, so that a photo stands upright. Shapes are those after turning.
// Determinism: the same bytes on every machine: libpng is exact; JPEG takes libjpeg's slow integer
//              transform (JDCT_ISLOW) with its usual interpolation of colours and no smoothing of
//              unfinished scans, which libjpeg-turbo computes exactly alike with any vector
//              instructions.
// Errors:      DATASET_INVALID for what is no such image, is damaged, ends early or has more than
//              kMostPixels; DATASET_TOO_LARGE before memory beyond the options is taken; Cancelled.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/load_options.h"

namespace espalier::worker::data {

struct ImageDims {
  int64_t channels = 0;
  int64_t height = 0;
  int64_t width = 0;

  int64_t values() const { return channels * height * width; }
  // "3 × 32 × 32": channels, height, width.
  std::string ToString() const;
  friend bool operator==(const ImageDims&, const ImageDims&) = default;
};

struct Image {
  ImageDims dims;
  std::vector<uint8_t> values;  // [height][width][channels]
};

// An image's file in memory.
struct EncodedImage {
  std::string name;  // for messages
  std::vector<uint8_t> bytes;
};

// Checked before an image is decoded.
inline constexpr int64_t kMostPixels = int64_t{1} << 27;

// The dimensions that DecodeImage() would give, from the file's head.
absl::StatusOr<ImageDims> ReadImageDims(const EncodedImage& file, const LoadOptions& options);
// `held` bytes of memory are taken already.
absl::StatusOr<Image> DecodeImage(const EncodedImage& file, const LoadOptions& options,
                                  int64_t held);

}  // namespace espalier::worker::data
