// The two decoders behind image.h. Internal to this folder.
//
// Both libraries report errors by longjmp(). Every function that they may leave so holds only
// values without destructors; what has one belongs to an object outside of it.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/data/images/image.h"

namespace espalier::worker::data {

// A decoder that has read an image's head.
struct ImageHead {
  ImageDims dims;       // before turning
  int orientation = 1;  // 1..8 as EXIF counts
};

absl::StatusOr<ImageHead> ReadPngHead(const EncodedImage& file);
absl::StatusOr<ImageHead> ReadJpegHead(const EncodedImage& file);

// Not turned yet.
absl::StatusOr<Image> DecodePng(const EncodedImage& file, const LoadOptions& options, int64_t held);
absl::StatusOr<Image> DecodeJpeg(const EncodedImage& file, const LoadOptions& options,
                                 int64_t held);

// Whether there may be an image of so many pixels whose decoder takes `bytes_per_pixel`.
absl::Status CheckPixels(const EncodedImage& file, int64_t height, int64_t width,
                         int64_t bytes_per_pixel, const LoadOptions& options, int64_t held);

// The error for a file that a library could not read; `reason` is the library's.
absl::Status BrokenImage(const EncodedImage& file, const char* kind, const char* reason);

// EXIF's orientation, 1..8, from its TIFF structure; 1 when there is none.
int ExifOrientation(std::span<const uint8_t> tiff);
// `image` turned and mirrored so that it stands as `orientation` says.
Image Upright(Image image, int orientation);

}  // namespace espalier::worker::data
