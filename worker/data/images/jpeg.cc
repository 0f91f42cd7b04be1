#include <csetjmp>
#include <cstddef>
#include <cstdio>
// jpeglib.h needs size_t and FILE before it.
#include <jerror.h>
#include <jpeglib.h>

#include <array>
#include <cstring>
#include <utility>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/images/codecs.h"

namespace espalier::worker::data {
namespace {

// Progressive images of more scans than this are made to keep a decoder busy.
constexpr int kMostScans = 500;

// What libjpeg's callbacks and the functions that it may leave by longjmp() share. libjpeg hands
// out pointers to the first members.
struct Errors {
  jpeg_error_mgr base{};
  std::jmp_buf jump{};
  std::array<char, JMSG_LENGTH_MAX> message{};
};

struct Progress {
  jpeg_progress_mgr base{};
  const LoadOptions* options = nullptr;
};

[[noreturn]] void Fail(j_common_ptr info) {
  auto* errors = reinterpret_cast<Errors*>(info->err);
  info->err->format_message(info, errors->message.data());
  std::longjmp(errors->jump, 1);
}

// libjpeg fills what is missing with grey and only warns. Warnings that cost no pixel are let pass.
void Warn(j_common_ptr info, int level) {
  if (level >= 0) return;
  switch (info->err->msg_code) {
    case JWRN_EXTRANEOUS_DATA:
    case JWRN_ADOBE_XFORM:
    case JWRN_JFIF_MAJOR:
    case JWRN_TOO_MUCH_DATA:
      return;
    default:
      Fail(info);
  }
}

void Watch(j_common_ptr info) {
  const auto* progress = reinterpret_cast<const Progress*>(info->progress);
  auto* errors = reinterpret_cast<Errors*>(info->err);
  const auto* decoder = reinterpret_cast<j_decompress_ptr>(info);
  if (progress->options->is_cancelled()) std::longjmp(errors->jump, 1);
  if (decoder->input_scan_number > kMostScans) {
    std::snprintf(errors->message.data(), errors->message.size(), "more than %d scans", kMostScans);
    std::longjmp(errors->jump, 1);
  }
}

// Owns libjpeg's structures.
class Reader {
 public:
  explicit Reader(const EncodedImage& file) : file_(file) {
    info_.err = jpeg_std_error(&errors_.base);
    errors_.base.error_exit = Fail;
    errors_.base.emit_message = Warn;
  }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  ~Reader() { jpeg_destroy_decompress(&info_); }

  absl::StatusOr<ImageHead> ReadHead();
  absl::StatusOr<Image> Decode(const ImageDims& dims, const LoadOptions& options);
  bool has_several_scans() { return jpeg_has_multiple_scans(&info_) != 0; }

 private:
  bool TryReadHead();
  bool TryReadRows(uint8_t* pixels, size_t row_bytes);
  int Orientation() const;
  absl::Status Broken() const { return BrokenImage(file_, "JPEG", errors_.message.data()); }

  const EncodedImage& file_;
  Errors errors_;
  Progress progress_;
  jpeg_decompress_struct info_{};
};

bool Reader::TryReadHead() {
  constexpr int kExifMarker = JPEG_APP0 + 1;
  constexpr unsigned kWholeMarker = 0xFFFF;
  if (setjmp(errors_.jump) != 0) return false;
  jpeg_create_decompress(&info_);
  jpeg_mem_src(&info_, file_.bytes.data(), static_cast<unsigned long>(file_.bytes.size()));
  jpeg_save_markers(&info_, kExifMarker, kWholeMarker);
  jpeg_read_header(&info_, TRUE);
  return true;
}

bool Reader::TryReadRows(uint8_t* pixels, size_t row_bytes) {
  if (setjmp(errors_.jump) != 0) return false;
  info_.out_color_space = info_.num_components == 1 ? JCS_GRAYSCALE : JCS_RGB;
  info_.dct_method = JDCT_ISLOW;
  info_.do_fancy_upsampling = TRUE;
  info_.do_block_smoothing = FALSE;
  jpeg_start_decompress(&info_);
  while (info_.output_scanline < info_.output_height) {
    JSAMPROW row = pixels + info_.output_scanline * row_bytes;
    jpeg_read_scanlines(&info_, &row, 1);
  }
  jpeg_finish_decompress(&info_);
  return true;
}

int Reader::Orientation() const {
  constexpr size_t kPrefix = 6;
  for (const jpeg_marker_struct* marker = info_.marker_list; marker != nullptr;
       marker = marker->next) {
    if (marker->data_length < kPrefix || std::memcmp(marker->data, "Exif\0", kPrefix) != 0)
      continue;
    return ExifOrientation({marker->data + kPrefix, marker->data_length - kPrefix});
  }
  return 1;
}

absl::StatusOr<ImageHead> Reader::ReadHead() {
  if (!TryReadHead()) return Broken();
  if (info_.num_components != 1 && info_.num_components != 3) {
    return DatasetInvalid(file_.name, {"", "a grey or RGB image",
                                       info_.num_components == 4 ? "CMYK, the colours of print"
                                                                 : "neither of the two",
                                       "convert it to RGB"});
  }
  ImageHead head;
  head.dims = {info_.num_components, info_.image_height, info_.image_width};
  head.orientation = Orientation();
  return head;
}

absl::StatusOr<Image> Reader::Decode(const ImageDims& dims, const LoadOptions& options) {
  Image image;
  image.dims = dims;
  image.values.resize(static_cast<size_t>(dims.values()));
  progress_.base.progress_monitor = Watch;
  progress_.options = &options;
  info_.progress = &progress_.base;
  const bool read =
      TryReadRows(image.values.data(), static_cast<size_t>(dims.width * dims.channels));
  ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
  if (!read) return Broken();
  return image;
}

}  // namespace

absl::StatusOr<ImageHead> ReadJpegHead(const EncodedImage& file) {
  Reader reader(file);
  return reader.ReadHead();
}

absl::StatusOr<Image> DecodeJpeg(const EncodedImage& file, const LoadOptions& options,
                                 int64_t held) {
  // The image, and once more while it is turned; of several scans 16 bits of each colour before.
  constexpr int64_t kBytesPerPixel = 6;
  constexpr int64_t kBytesPerPixelOfScans = 12;
  Reader reader(file);
  ESPALIER_ASSIGN_OR_RETURN(const ImageHead head, reader.ReadHead());
  ESPALIER_RETURN_IF_ERROR(CheckPixels(
      file, head.dims.height, head.dims.width,
      reader.has_several_scans() ? kBytesPerPixelOfScans : kBytesPerPixel, options, held));
  ESPALIER_ASSIGN_OR_RETURN(Image image, reader.Decode(head.dims, options));
  return Upright(std::move(image), head.orientation);
}

}  // namespace espalier::worker::data
