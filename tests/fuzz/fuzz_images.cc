// Images, PNG and JPEG: an image has the dimensions that its head says, and a value for each
// channel of each pixel.
#include <cstdint>
#include <utility>

#include "tests/fuzz/fuzz_input.h"
#include "worker/data/images/codecs.h"
#include "worker/data/images/image.h"
#include "worker/data/images/resize.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using espalier::fuzz::Require;
  namespace data = espalier::worker::data;
  espalier::fuzz::Input input(bytes, size);
  // A small file may hold a large image; one of more than this takes too long for a fuzzer.
  constexpr data::LoadOptions kOptions = {.max_memory_bytes = 1 << 22};
  const int orientation = 1 + input.Choice(8);
  const data::EncodedImage file{"input", {input.Rest().begin(), input.Rest().end()}};
  const auto dims = data::ReadImageDims(file, kOptions);
  auto image = data::DecodeImage(file, kOptions, 0);
  if (!image.ok()) return 0;
  Require(dims.ok() && *dims == image->dims, "an image has the dimensions that its head says");
  Require(static_cast<int64_t>(image->values.size()) == image->dims.values(), "an image is whole");
  const auto again = data::DecodeImage(file, kOptions, 0);
  Require(again.ok() && again->values == image->values, "an image is the same every time");
  const int64_t pixels = image->dims.height * image->dims.width;
  data::Image upright = data::Upright(*std::move(image), orientation);
  Require(upright.dims.height * upright.dims.width == pixels, "turning keeps all pixels");
  const data::Image scaled = data::ScaledAndCropped(std::move(upright), 9, 5);
  Require(scaled.dims.height == 9 && scaled.dims.width == 5, "an image is scaled as was asked for");
  return 0;
}
