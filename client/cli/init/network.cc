#include "client/cli/init/network.h"

#include <algorithm>

#include "client/cli/init/sections.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

// Products of a weight in one step: forwards, for the gradient of its input and for its own; each
// is a multiplication and an addition.
constexpr double kOperationsPerWeight = 6;

}  // namespace

Network LinearNetwork(const v1::DatasetInfo& info) {
  const int64_t features = info.features();
  const int64_t units = features <= 16 ? 100 : features <= 1000 ? 200 : 100;
  const auto width = static_cast<double>(units);
  const bool numbers = info.targets() > 0;
  const int64_t outputs = numbers ? info.targets() : info.classes();
  const double weights = width * (static_cast<double>(features + outputs) + width);
  Network network;
  network.density = weights < 20'000 ? 0.3 : weights < 100'000 ? 0.2 : 0.1;
  network.work = kOperationsPerWeight * network.density * weights;
  network.section = fmt::format(
      "model:\n"
      "  # The number of inputs, {0}, and of outputs, {2}, are those of the data.\n"
      "  layers:\n"
      "    # Two hidden layers; wider ones learn more, and need more data. While it trains, a\n"
      "    # tenth of their outputs is dropped at random, so that none is relied on alone.\n"
      "    - linear: {{units: {1}, activation: relu, dropout: 0.1}}\n"
      "    - linear: {{units: {1}, activation: relu, dropout: 0.1}}\n"
      "    - linear: {{}}  # one output for each {3}: {2}",
      features, units, outputs, numbers ? "number" : "class");
  return network;
}

Network ConvolutionalNetwork(const v1::DatasetInfo& info) {
  constexpr int64_t kFirst = 16;
  constexpr int64_t kSecond = 32;
  constexpr int64_t kHidden = 128;
  constexpr int64_t kWindow = 9;
  constexpr int64_t kSmallSide = 16;
  const int64_t smaller = std::min(info.image_height(), info.image_width());
  const int64_t stride = smaller > kSmallSide ? 2 : 1;
  const int64_t first =
      ((info.image_height() + stride - 1) / stride) * ((info.image_width() + stride - 1) / stride);
  const int64_t second = (first + 3) / 4;
  const int64_t products = first * kFirst * kWindow * info.image_channels() +
                           second * kSecond * kWindow * kFirst + second * kSecond * kHidden;
  Network network;
  network.density = 0.2;
  network.work = kOperationsPerWeight * network.density * static_cast<double>(products);
  network.section = fmt::format(
      "model:\n"
      "  input_image: {{channels: {}, height: {}, width: {}}}\n"
      "  layers:\n"
      "    # Convolutions find local patterns; a stride of 2 halves height and width.\n"
      "    - conv2d: {{channels: {}, stride: {}, activation: relu}}\n"
      "    - conv2d: {{channels: {}, stride: 2, activation: relu}}\n"
      "    - linear: {{units: {}, activation: relu, dropout: 0.1}}\n"
      "    - linear: {{}}  # one output for each class: {}",
      info.image_channels(), info.image_height(), info.image_width(), kFirst, stride, kSecond,
      kHidden, info.classes());
  return network;
}

}  // namespace espalier::cli::init
