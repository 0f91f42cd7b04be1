#include "common/wire/model_spec/windows.h"

#include <fmt/core.h>

#include "common/base/status.h"

namespace espalier::wire {

absl::Status NeedsImage(const FeatureShape& input) {
  if (input.image) return absl::OkStatus();
  return ShapeError(
      fmt::format("expected an image to work on, found {}; set model.input_image {{channels, "
                  "height, width}}, and put linear and flatten layers after this one",
                  ToText(input)));
}

absl::StatusOr<FeatureShape> Slide(const Window& window, int64_t channels,
                                   const FeatureShape& input) {
  ESPALIER_RETURN_IF_ERROR(NeedsImage(input));
  if (window.kernel < 1 || window.stride < 1 || window.padding < 0 || channels < 1) {
    return ShapeError(
        fmt::format("expected a window of at least 1 with a stride of at least 1, padding of at "
                    "least 0 and channels, found {}, {}, {} and {}",
                    window.kernel, window.stride, window.padding, channels));
  }
  const int64_t height = input.height + 2 * window.padding - window.kernel;
  const int64_t width = input.width + 2 * window.padding - window.kernel;
  if (height < 0 || width < 0) {
    return ShapeError(
        fmt::format("a window of {0} × {0} with padding {1} does not fit the {2} × {3} positions "
                    "that are left here; use a smaller kernel, fewer strides before it, or a "
                    "larger image",
                    window.kernel, window.padding, input.height, input.width));
  }
  const FeatureShape output = {.channels = channels,
                               .height = height / window.stride + 1,
                               .width = width / window.stride + 1,
                               .image = true};
  if (output.channels > kMaxFeatures / output.positions()) {
    return ShapeError(fmt::format("an output of {} has more than {} features; use fewer channels",
                                  ToText(output), kMaxFeatures));
  }
  return output;
}

}  // namespace espalier::wire
