#include "worker/data/images/resize.h"

#include <algorithm>
#include <cstdlib>
#include <utility>
#include <vector>

namespace espalier::worker::data {
namespace {

// One output position: `weights` of the inputs from `first` on.
struct Taps {
  int64_t first = 0;
  std::vector<int64_t> weights;
  int64_t sum = 0;
};

// Positions [begin, begin + count) of an axis of `in` pixels that is scaled to `out`. In units of
// 1 / (2 · out) input pixels the centres of output x and input i are (2x + 1) · in and
// (2i + 1) · out, so that all weights are whole numbers.
std::vector<Taps> AxisTaps(int64_t in, int64_t out, int64_t begin, int64_t count) {
  const int64_t half_width = 2 * std::max(in, out);
  std::vector<Taps> all(static_cast<size_t>(count));
  for (int64_t x = begin; x < begin + count; ++x) {
    const int64_t centre = (2 * x + 1) * in;
    Taps& taps = all[static_cast<size_t>(x - begin)];
    const int64_t low = std::max<int64_t>((centre - half_width) / (2 * out) - 1, 0);
    for (int64_t i = low; i < in; ++i) {
      const int64_t weight = half_width - std::abs((2 * i + 1) * out - centre);
      if (weight <= 0 && taps.weights.empty()) continue;
      if (weight <= 0) break;
      if (taps.weights.empty()) taps.first = i;
      taps.weights.push_back(weight);
      taps.sum += weight;
    }
  }
  return all;
}

// Rows of `from` bytes become rows of taps.size() pixels of `channels` values.
void ScaleRow(const uint8_t* from, const std::vector<Taps>& taps, int64_t channels, uint8_t* to) {
  for (const Taps& tap : taps) {
    for (int64_t c = 0; c < channels; ++c) {
      const uint8_t* value = from + tap.first * channels + c;
      int64_t sum = tap.sum / 2;
      for (const int64_t weight : tap.weights) {
        sum += weight * *value;
        value += channels;
      }
      *to++ = static_cast<uint8_t>(sum / tap.sum);
    }
  }
}

// One output row from the rows that it lies between.
void MixRows(const uint8_t* rows, size_t row_bytes, const Taps& tap, std::vector<int64_t>& sums,
             uint8_t* to) {
  std::fill(sums.begin(), sums.end(), tap.sum / 2);
  const uint8_t* row = rows + static_cast<size_t>(tap.first) * row_bytes;
  for (const int64_t weight : tap.weights) {
    for (size_t i = 0; i < row_bytes; ++i) sums[i] += weight * row[i];
    row += row_bytes;
  }
  for (size_t i = 0; i < row_bytes; ++i) to[i] = static_cast<uint8_t>(sums[i] / tap.sum);
}

// a · b / c to the nearest whole number.
int64_t Scaled(int64_t a, int64_t b, int64_t c) { return (2 * a * b + c) / (2 * c); }

}  // namespace

Image WithChannels(Image image, int64_t channels) {
  if (image.dims.channels == channels) return image;
  const int64_t pixels = image.dims.height * image.dims.width;
  Image changed;
  changed.dims = {channels, image.dims.height, image.dims.width};
  changed.values.resize(static_cast<size_t>(changed.dims.values()));
  const uint8_t* in = image.values.data();
  uint8_t* out = changed.values.data();
  for (int64_t i = 0; i < pixels; ++i) {
    if (channels == 1) {
      // 0.299, 0.587 and 0.114 in units of 1 / 65536; they sum to one.
      const int grey = (19595 * in[0] + 38470 * in[1] + 7471 * in[2] + 32768) >> 16;
      *out++ = static_cast<uint8_t>(grey);
      in += 3;
    } else {
      out = std::fill_n(out, channels, *in++);
    }
  }
  return changed;
}

int64_t ScalingBytes(const ImageDims& from, int64_t height, int64_t width) {
  // Every input pixel of an axis weighs in about two outputs.
  const int64_t taps = 2 * 2 * static_cast<int64_t>(sizeof(int64_t)) * (from.height + from.width);
  return from.channels * width * (from.height + height + static_cast<int64_t>(sizeof(int64_t))) +
         taps + static_cast<int64_t>(sizeof(Taps)) * (height + width);
}

Image ScaledAndCropped(Image image, int64_t height, int64_t width) {
  const ImageDims from = image.dims;
  if (from.height == height && from.width == width) return image;
  // Of the two scales the larger one covers both sides.
  const bool by_height = height * from.width >= width * from.height;
  const int64_t tall =
      by_height ? height : std::max(Scaled(from.height, width, from.width), height);
  const int64_t wide = by_height ? std::max(Scaled(from.width, height, from.height), width) : width;
  const std::vector<Taps> columns = AxisTaps(from.width, wide, (wide - width) / 2, width);
  const std::vector<Taps> rows = AxisTaps(from.height, tall, (tall - height) / 2, height);
  const auto in_bytes = static_cast<size_t>(from.width * from.channels);
  const auto out_bytes = static_cast<size_t>(width * from.channels);
  std::vector<uint8_t> narrowed(static_cast<size_t>(from.height) * out_bytes);
  for (size_t y = 0; y < static_cast<size_t>(from.height); ++y) {
    ScaleRow(image.values.data() + y * in_bytes, columns, from.channels,
             narrowed.data() + y * out_bytes);
  }
  Image scaled;
  scaled.dims = {from.channels, height, width};
  scaled.values.resize(static_cast<size_t>(scaled.dims.values()));
  std::vector<int64_t> sums(out_bytes);
  for (size_t y = 0; y < rows.size(); ++y) {
    MixRows(narrowed.data(), out_bytes, rows[y], sums, scaled.values.data() + y * out_bytes);
  }
  return scaled;
}

}  // namespace espalier::worker::data
