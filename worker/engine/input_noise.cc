#include "worker/engine/input_noise.h"

#include <algorithm>
#include <array>

#include "common/base/rng.h"

namespace espalier::worker::engine {
namespace {

constexpr int64_t kWords = 4;
constexpr int kMean = 510;  // of four bytes
// 1 / √(4 · (256² − 1) / 12).
constexpr double kInverseDeviation = 0.006765875086793228;

}  // namespace

void AddNoise(double deviation, uint64_t key, RowRange rows, int64_t width, int64_t stride,
              float* values) {
  const double scale = deviation * kInverseDeviation;
  const std::array<uint32_t, 2> halves = {static_cast<uint32_t>(key),
                                          static_cast<uint32_t>(key >> 32)};
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float* out = values + row * stride;
    for (int64_t column = 0; column < width; column += kWords) {
      const auto words = base::Philox({static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32),
                                       static_cast<uint32_t>(column / kWords), 0},
                                      halves);
      const int64_t count = std::min(kWords, width - column);
      for (int64_t k = 0; k < count; ++k) {
        const uint32_t word = words[static_cast<size_t>(k)];
        const int sum = static_cast<int>((word & 0xFF) + ((word >> 8) & 0xFF) +
                                         ((word >> 16) & 0xFF) + (word >> 24));
        out[column + k] += static_cast<float>(scale * (sum - kMean));
      }
    }
  }
}

}  // namespace espalier::worker::engine
