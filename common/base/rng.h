// Counter-based random numbers: Philox4x32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random
// numbers: as easy as 1, 2, 3", SC 2011).
//
// A stream is a pure function of its key: equal keys give equal numbers on every machine, and
// streams of different keys are independent. Hence a coordinator can broadcast a key instead of
// what was drawn.
//
// Determinism: integer draws (Next*, Below, Uniform) are bit-identical everywhere. Normal() calls
//              the C library's log and cos, so it is only used where the result itself is sent on.
// Threading:   not thread-safe; make one per thread, they are 64 bytes.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string_view>

namespace espalier::base {

// One Philox4x32-10 block: four 32-bit words for a counter and a key.
std::array<uint32_t, 4> Philox(std::array<uint32_t, 4> counter, std::array<uint32_t, 2> key);

// Folds what a stream is for into a 64-bit key: Key(seed, "grow", {tensor, step}).
uint64_t StreamKey(uint64_t seed, std::string_view purpose, std::span<const uint64_t> parts = {});
uint64_t StreamKey(uint64_t seed, std::string_view purpose, std::initializer_list<uint64_t> parts);

class Rng {
 public:
  explicit Rng(uint64_t key) : key_{static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32)} {}

  uint32_t Next32();
  uint64_t Next64();
  // Uniform in [0, bound), without bias; bound > 0.
  uint64_t Below(uint64_t bound);
  // Uniform in [0, 1), 53 bits.
  double Uniform();
  // Standard normal by Box-Muller.
  double Normal();
  // Gamma(shape, 1) by Marsaglia and Tsang (2000); shape > 0.
  double Gamma(double shape);

 private:
  std::array<uint32_t, 2> key_;
  uint64_t counter_ = 0;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

// Fisher-Yates shuffle of `items` in place.
template <typename T>
void Shuffle(std::span<T> items, Rng& rng) {
  for (size_t i = items.size(); i > 1; --i) {
    std::swap(items[i - 1], items[rng.Below(i)]);
  }
}

}  // namespace espalier::base
