// Rotary positions (Su et al. 2021) in Hugging Face's layout: feature d of a head is rotated with
// feature d + head_size / 2, by position · theta^(−2d / head_size).
//
// Memory:      8 bytes per position and pair of features.
// Threading:   immutable after construction. Determinism: the same bits for any number of threads.
#pragma once

#include <cstdint>
#include <vector>

namespace espalier::worker::engine {

class Rotary {
 public:
  Rotary(int64_t head_size, int64_t positions, double theta);

  // Rotates x [heads · head_size][stride]: `count` columns from `first` on, whose positions are
  // `position`, position + 1, … With `inverse` it turns back, which is also the gradient.
  void Apply(float* x, int64_t heads, int64_t stride, int64_t first, int64_t count,
             int64_t position, bool inverse = false) const;

 private:
  int64_t half_;
  int64_t positions_;
  std::vector<float> cos_;  // [half][positions]
  std::vector<float> sin_;
};

}  // namespace espalier::worker::engine
