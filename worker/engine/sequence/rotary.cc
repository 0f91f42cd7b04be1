#include "worker/engine/sequence/rotary.h"

#include <cmath>

#include "worker/engine/multiversion.h"

namespace espalier::worker::engine {
namespace {

ESPALIER_MULTIVERSION void Rotate(const float* cos, const float* sin, float sign, int64_t count,
                                  float* low, float* high) {
  for (int64_t c = 0; c < count; ++c) {
    const float a = low[c];
    const float b = high[c];
    const float s = sign * sin[c];
    low[c] = a * cos[c] - b * s;
    high[c] = b * cos[c] + a * s;
  }
}

}  // namespace

Rotary::Rotary(int64_t head_size, int64_t positions, double theta)
    : half_(head_size / 2),
      positions_(positions),
      cos_(static_cast<size_t>(half_ * positions)),
      sin_(static_cast<size_t>(half_ * positions)) {
  for (int64_t d = 0; d < half_; ++d) {
    const double frequency =
        std::pow(theta, -2.0 * static_cast<double>(d) / static_cast<double>(head_size));
    for (int64_t p = 0; p < positions; ++p) {
      const double angle = static_cast<double>(p) * frequency;
      cos_[static_cast<size_t>(d * positions + p)] = static_cast<float>(std::cos(angle));
      sin_[static_cast<size_t>(d * positions + p)] = static_cast<float>(std::sin(angle));
    }
  }
}

void Rotary::Apply(float* x, int64_t heads, int64_t stride, int64_t first, int64_t count,
                   int64_t position, bool inverse) const {
  for (int64_t head = 0; head < heads; ++head) {
    for (int64_t d = 0; d < half_; ++d) {
      float* low = x + (head * 2 * half_ + d) * stride + first;
      const int64_t table = d * positions_ + position;
      Rotate(cos_.data() + table, sin_.data() + table, inverse ? -1.0f : 1.0f, count, low,
             low + half_ * stride);
    }
  }
}

}  // namespace espalier::worker::engine
