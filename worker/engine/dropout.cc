#include "worker/engine/dropout.h"

#include <algorithm>
#include <cmath>

#include "worker/engine/multiversion.h"

namespace espalier::worker::engine {
namespace {

constexpr int kWords = 4;
constexpr int64_t kGroupBlocks = 2 * kWords;  // blocks of kLanes columns that one group decides

// base::Philox for kLanes counters {row low, row high, group, lane} at once, in a form that
// compilers vectorise; a test compares the two. words[w][lane] is word w of the lane's block.
ESPALIER_MULTIVERSION
void PhiloxLanes(uint64_t row, uint32_t group, uint64_t key, uint32_t (&words)[kWords][kLanes]) {
  uint64_t c0[kLanes];
  uint64_t c1[kLanes];
  uint64_t c2[kLanes];
  uint64_t c3[kLanes];
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    c0[lane] = row & 0xFFFFFFFF;
    c1[lane] = row >> 32;
    c2[lane] = group;
    c3[lane] = static_cast<uint64_t>(lane);
  }
  uint64_t key0 = key & 0xFFFFFFFF;
  uint64_t key1 = key >> 32;
  for (int round = 0; round < 10; ++round) {
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const uint64_t product0 = 0xD2511F53ULL * (c0[lane] & 0xFFFFFFFF);
      const uint64_t product1 = 0xCD9E8D57ULL * (c2[lane] & 0xFFFFFFFF);
      c0[lane] = (product1 >> 32) ^ c1[lane] ^ key0;
      c2[lane] = (product0 >> 32) ^ c3[lane] ^ key1;
      c1[lane] = product1 & 0xFFFFFFFF;
      c3[lane] = product0 & 0xFFFFFFFF;
    }
    key0 = (key0 + 0x9E3779B9) & 0xFFFFFFFF;
    key1 = (key1 + 0xBB67AE85) & 0xFFFFFFFF;
  }
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    words[0][lane] = static_cast<uint32_t>(c0[lane]);
    words[1][lane] = static_cast<uint32_t>(c1[lane]);
    words[2][lane] = static_cast<uint32_t>(c2[lane]);
    words[3][lane] = static_cast<uint32_t>(c3[lane]);
  }
}

// Bit `lane` is set where the upper or lower half of words[lane] reaches the threshold.
ESPALIER_MULTIVERSION
uint16_t KeepBits(const uint32_t (&words)[kLanes], int shift, uint32_t threshold) {
  uint32_t bits = 0;
  for (int64_t lane = 0; lane < kLanes; ++lane) {
    bits |= static_cast<uint32_t>(((words[lane] >> shift) & 0xFFFF) >= threshold) << lane;
  }
  return static_cast<uint16_t>(bits);
}

ESPALIER_MULTIVERSION
void ApplyBits(const uint16_t* bits, float scale, float* y, int64_t blocks) {
  for (int64_t block = 0; block < blocks; ++block) {
    const uint32_t kept = bits[block];
    float* out = y + block * kLanes;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      out[lane] = ((kept >> lane) & 1) != 0 ? out[lane] * scale : 0.0F;
    }
  }
}

}  // namespace

DropoutMask::DropoutMask(double probability, DropoutScaling scaling, int64_t rows, int64_t stride)
    : threshold_(static_cast<uint32_t>(std::min(std::lround(probability * 65536), 65535L))),
      blocks_(stride / kLanes),
      bits_(threshold_ > 0 ? rows * blocks_ : 0) {
  const double kept = (65536.0 - threshold_) / 65536.0;
  if (scaling == DropoutScaling::kTraining) {
    training_scale_ = static_cast<float>(1.0 / kept);
  } else {
    evaluation_scale_ = static_cast<float>(kept);
  }
}

void DropoutMask::Draw(uint64_t key, RowRange rows) {
  if (!enabled()) return;
  uint32_t words[kWords][kLanes];
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    for (int64_t first = 0; first < blocks_; first += kGroupBlocks) {
      PhiloxLanes(static_cast<uint64_t>(row), static_cast<uint32_t>(first / kGroupBlocks), key,
                  words);
      for (int64_t i = 0; i < kGroupBlocks && first + i < blocks_; ++i) {
        bits_[row * blocks_ + first + i] =
            KeepBits(words[i / 2], static_cast<int>(i % 2) * 16, threshold_);
      }
    }
  }
}

void DropoutMask::Apply(float* y, int64_t stride, int64_t width, RowRange rows) const {
  if (!changes_outputs()) return;
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    float* out = y + row * stride;
    if (active_) {
      ApplyBits(bits_.data() + row * blocks_, training_scale_, out, width / kLanes);
    } else {
      for (int64_t b = 0; b < width; ++b) out[b] *= evaluation_scale_;
    }
  }
}

}  // namespace espalier::worker::engine
