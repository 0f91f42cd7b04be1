#include <png.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "worker/data/images/codecs.h"

namespace espalier::worker::data {
namespace {

// What libpng's callbacks and the functions that it may leave by longjmp() share.
struct State {
  const uint8_t* next = nullptr;
  size_t left = 0;
  std::array<char, 160> message{};
  const LoadOptions* options = nullptr;
  uint8_t* pixels = nullptr;
  size_t row_bytes = 0;
  png_uint_32 height = 0;
};

void Fail(png_structp png, png_const_charp message) {
  auto* state = static_cast<State*>(png_get_error_ptr(png));
  std::snprintf(state->message.data(), state->message.size(), "%s", message);
  png_longjmp(png, 1);
}

void Ignore(png_structp, png_const_charp) {}

void ReadBytes(png_structp png, png_bytep out, size_t size) {
  auto* state = static_cast<State*>(png_get_io_ptr(png));
  if (size > state->left) png_error(png, "the file ends early");
  std::memcpy(out, state->next, size);
  state->next += size;
  state->left -= size;
}

// Owns libpng's structures.
class Reader {
 public:
  explicit Reader(const EncodedImage& file) {
    state_.next = file.bytes.data();
    state_.left = file.bytes.size();
    png_ = png_create_read_struct(PNG_LIBPNG_VER_STRING, &state_, Fail, Ignore);
    if (png_ != nullptr) info_ = png_create_info_struct(png_);
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { png_destroy_read_struct(&png_, &info_, nullptr); }

  absl::StatusOr<ImageHead> ReadHead(const EncodedImage& file);
  absl::StatusOr<Image> Decode(const EncodedImage& file, const ImageDims& dims,
                               const LoadOptions& options);
  // Channels as they are decoded: with transparency one more.
  int decoded_channels() const { return png_get_channels(png_, info_); }

 private:
  bool TryReadHead();
  bool TryUpdate();
  bool TryReadRows();

  State state_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
};

bool Reader::TryReadHead() {
  if (setjmp(png_jmpbuf(png_)) != 0) return false;
  // Profiles and comments that unfold into more than this are no part of a picture.
  constexpr png_alloc_size_t kMostChunkBytes = 8 << 20;
  png_set_chunk_malloc_max(png_, kMostChunkBytes);
  png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);
  png_set_read_fn(png_, &state_, ReadBytes);
  png_read_info(png_, info_);
  return true;
}

bool Reader::TryUpdate() {
  if (setjmp(png_jmpbuf(png_)) != 0) return false;
  png_set_expand(png_);
  png_set_scale_16(png_);
  png_set_interlace_handling(png_);
  png_read_update_info(png_, info_);
  return true;
}

bool Reader::TryReadRows() {
  if (setjmp(png_jmpbuf(png_)) != 0) return false;
  const int passes = png_get_interlace_type(png_, info_) == PNG_INTERLACE_NONE ? 1 : 7;
  for (int pass = 0; pass < passes; ++pass) {
    for (png_uint_32 row = 0; row < state_.height; ++row) {
      if (state_.options->is_cancelled()) return true;
      png_read_row(png_, state_.pixels + row * state_.row_bytes, nullptr);
    }
  }
  png_read_end(png_, nullptr);
  return true;
}

absl::StatusOr<ImageHead> Reader::ReadHead(const EncodedImage& file) {
  if (info_ == nullptr) return absl::ResourceExhaustedError("no memory to read a PNG image");
  if (!TryReadHead()) return BrokenImage(file, "PNG", state_.message.data());
  const bool grey = (png_get_color_type(png_, info_) & PNG_COLOR_MASK_COLOR) == 0;
  ImageHead head;
  head.dims = {grey ? 1 : 3, png_get_image_height(png_, info_), png_get_image_width(png_, info_)};
  png_uint_32 exif_bytes = 0;
  png_bytep exif = nullptr;
  if (png_get_eXIf_1(png_, info_, &exif_bytes, &exif) != 0) {
    head.orientation = ExifOrientation({exif, exif_bytes});
  }
  return head;
}

// Takes the last of each pixel's values, its opacity, away and darkens the others by it.
void BlendOverBlack(Image& image) {
  const int64_t channels = image.dims.channels;
  const int64_t pixels = image.dims.height * image.dims.width;
  const uint8_t* in = image.values.data();
  uint8_t* out = image.values.data();
  for (int64_t i = 0; i < pixels; ++i, in += channels + 1, out += channels) {
    const int opacity = in[channels];
    for (int64_t c = 0; c < channels; ++c) {
      out[c] = static_cast<uint8_t>((in[c] * opacity + 127) / 255);
    }
  }
  image.values.resize(static_cast<size_t>(image.dims.values()));
}

absl::StatusOr<Image> Reader::Decode(const EncodedImage& file, const ImageDims& dims,
                                     const LoadOptions& options) {
  if (!TryUpdate()) return BrokenImage(file, "PNG", state_.message.data());
  Image image;
  image.dims = dims;
  state_.row_bytes = png_get_rowbytes(png_, info_);
  state_.height = static_cast<png_uint_32>(dims.height);
  image.values.resize(state_.row_bytes * state_.height);
  state_.pixels = image.values.data();
  state_.options = &options;
  if (!TryReadRows()) return BrokenImage(file, "PNG", state_.message.data());
  ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
  if (decoded_channels() > dims.channels) BlendOverBlack(image);
  return image;
}

}  // namespace

absl::StatusOr<ImageHead> ReadPngHead(const EncodedImage& file) {
  Reader reader(file);
  return reader.ReadHead(file);
}

absl::StatusOr<Image> DecodePng(const EncodedImage& file, const LoadOptions& options,
                                int64_t held) {
  // Decoded with opacity, and once more while it is turned.
  constexpr int64_t kBytesPerPixel = 8;
  Reader reader(file);
  ESPALIER_ASSIGN_OR_RETURN(const ImageHead head, reader.ReadHead(file));
  ESPALIER_RETURN_IF_ERROR(
      CheckPixels(file, head.dims.height, head.dims.width, kBytesPerPixel, options, held));
  ESPALIER_ASSIGN_OR_RETURN(Image image, reader.Decode(file, head.dims, options));
  return Upright(std::move(image), head.orientation);
}

}  // namespace espalier::worker::data
