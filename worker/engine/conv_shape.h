// The geometry of a convolution.
#pragma once

#include <compare>
#include <cstdint>

namespace espalier::worker::engine {

// Weights are [out_channels][in_channels][kernel][kernel]; activations [channels][height][width].
// `stride` is 1 or 2; 0 ≤ padding < kernel ≤ height + 2·padding, and the same for the width.
struct ConvShape {
  int64_t in_channels = 0;
  int64_t in_height = 0;
  int64_t in_width = 0;
  int64_t out_channels = 0;
  int64_t kernel = 1;
  int64_t stride = 1;
  int64_t padding = 0;

  int64_t out_height() const { return (in_height + 2 * padding - kernel) / stride + 1; }
  int64_t out_width() const { return (in_width + 2 * padding - kernel) / stride + 1; }
  int64_t cols() const { return in_channels * kernel * kernel; }
  int64_t in_features() const { return in_channels * in_height * in_width; }
  int64_t out_features() const { return out_channels * out_height() * out_width(); }
  // NOLINTNEXTLINE(modernize-use-nullptr): clang-tidy 14 trips over the defaulted comparison.
  friend auto operator<=>(const ConvShape&, const ConvShape&) = default;
};

}  // namespace espalier::worker::engine
