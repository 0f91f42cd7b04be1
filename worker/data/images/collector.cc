#include "worker/data/images/collector.h"

#include <fmt/format.h>

#include <utility>

#include "common/base/status.h"
#include "worker/data/errors.h"
#include "worker/data/images/resize.h"

namespace espalier::worker::data {
namespace {

// Rows of pixels to channels.
void StoreByChannel(const Image& image, uint8_t* to) {
  const int64_t pixels = image.dims.height * image.dims.width;
  for (int64_t c = 0; c < image.dims.channels; ++c) {
    const uint8_t* from = image.values.data() + c;
    for (int64_t i = 0; i < pixels; ++i, from += image.dims.channels) *to++ = *from;
  }
}

}  // namespace

absl::Status ImageCollector::Add(const EncodedImage& file, int32_t label) {
  const int64_t taken = held() + static_cast<int64_t>(file.bytes.size());
  ESPALIER_ASSIGN_OR_RETURN(Image image, DecodeImage(file, options_, taken));
  ESPALIER_ASSIGN_OR_RETURN(image, Fitted(std::move(image), file.name, taken));
  ESPALIER_RETURN_IF_ERROR(CheckAlike(image.dims, file.name));
  ESPALIER_RETURN_IF_ERROR(builder_.SetFeatures(dims_.values(), file.name));
  ESPALIER_ASSIGN_OR_RETURN(uint8_t* const row, builder_.AppendByteRows(1));
  StoreByChannel(image, row);
  builder_.AppendLabel(label);
  return absl::OkStatus();
}

absl::StatusOr<Image> ImageCollector::Fitted(Image image, const std::string& name,
                                             int64_t taken) const {
  if (!spec_.has_image_size()) return image;
  const v1::ImageSize& size = spec_.image_size();
  if (size.height() < 1 || size.width() < 1 ||
      (size.channels() != 0 && size.channels() != 1 && size.channels() != 3)) {
    return base::InvalidArgument(
        kDataSpecInvalid,
        fmt::format("data.image_size: expected a height and a width from 1, and 1, 3 or no "
                    "channels; found {} × {} × {}",
                    size.channels(), size.height(), size.width()));
  }
  const auto bytes = static_cast<int64_t>(image.values.size());
  ESPALIER_RETURN_IF_ERROR(options_.CheckMemory(
      name, taken + 2 * bytes + ScalingBytes(image.dims, size.height(), size.width())));
  if (size.channels() != 0) image = WithChannels(std::move(image), size.channels());
  return ScaledAndCropped(std::move(image), size.height(), size.width());
}

absl::Status ImageCollector::CheckAlike(const ImageDims& dims, const std::string& name) {
  if (builder_.rows() == 0) {
    dims_ = dims;
    first_ = name;
  }
  if (dims == dims_) return absl::OkStatus();
  return DatasetInvalid(
      name,
      {"", fmt::format("an image of {} (channels, height, width) as {}", dims_.ToString(), first_),
       fmt::format("one of {}", dims.ToString()),
       "set data.image_size, which brings all to one size, or make the images alike"});
}

}  // namespace espalier::worker::data
