#include "worker/engine/layers/pruned_output.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "common/sparsity/schedule.h"
#include "common/sparsity/selection.h"
#include "worker/engine/multiversion.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

constexpr int64_t kChunkRows = 64;
// Magnitudes have 31 bits; the wanted one is found digit by digit, from the highest.
struct Digit {
  int shift;
  int bits;
};
constexpr Digit kDigits[] = {{20, 11}, {10, 10}, {0, 10}};
// Neighbouring values count into different histograms: half of them are 0, and an increment would
// have to wait for the one before.
constexpr int64_t kHistograms = 4;

using sparsity::MagnitudeBits;

// Counts the values whose bits above the digit are `prefix` by their digit.
void CountDigits(const float* values, int64_t size, Digit digit, uint32_t prefix,
                 uint32_t* histograms) {
  const int64_t bins = int64_t{1} << digit.bits;
  for (int64_t b = 0; b < size; ++b) {
    const uint32_t bits = MagnitudeBits(values[b]) >> digit.shift;
    if (bits >> digit.bits != prefix) continue;
    ++histograms[(b % kHistograms) * bins + (bits & (bins - 1))];
  }
}

// The bin in which the `wanted`-th largest lies, and how many of it are wanted.
std::pair<int64_t, int64_t> FindBin(const std::vector<uint32_t>& histograms, int64_t bins,
                                    int64_t wanted) {
  const auto parts = static_cast<int64_t>(histograms.size()) / bins;
  for (int64_t bin = bins - 1;; --bin) {
    int64_t count = 0;
    for (int64_t part = 0; part < parts; ++part) count += histograms[part * bins + bin];
    if (count >= wanted || bin == 0) return {bin, wanted};
    wanted -= count;
  }
}

ESPALIER_MULTIVERSION
void CountAgainst(const float* values, int64_t size, uint32_t threshold, int64_t& above,
                  int64_t& equal) {
  int32_t more = 0;
  int32_t same = 0;
  for (int64_t b = 0; b < size; ++b) {
    const auto bits = static_cast<int32_t>(MagnitudeBits(values[b]));
    more += bits > static_cast<int32_t>(threshold) ? 1 : 0;
    same += bits == static_cast<int32_t>(threshold) ? 1 : 0;
  }
  above += more;
  equal += same;
}

// For each block of kLanes values a bit per lane: whether its magnitude is above the threshold.
ESPALIER_MULTIVERSION
void MarkAbove(const float* values, int64_t blocks, uint32_t threshold, uint16_t* marks) {
  for (int64_t block = 0; block < blocks; ++block) {
    uint32_t mark = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const auto bits = static_cast<int32_t>(MagnitudeBits(values[block * kLanes + lane]));
      mark |= (bits > static_cast<int32_t>(threshold) ? 1U : 0U) << lane;
    }
    marks[block] = static_cast<uint16_t>(mark);
  }
}

ESPALIER_MULTIVERSION
void MarkPositive(const float* values, int64_t blocks, uint16_t* marks) {
  for (int64_t block = 0; block < blocks; ++block) {
    uint32_t mark = 0;
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      mark |= (values[block * kLanes + lane] > 0.0F ? 1U : 0U) << lane;
    }
    marks[block] = static_cast<uint16_t>(mark);
  }
}

ESPALIER_MULTIVERSION
void ClearUnmarked(const uint16_t* marks, int64_t blocks, float* values) {
  for (int64_t block = 0; block < blocks; ++block) {
    const uint32_t mark = marks[block];
    for (int64_t lane = 0; lane < kLanes; ++lane) {
      const uint32_t marked = 0U - (mark >> lane & 1U);  // all bits or none
      float& value = values[block * kLanes + lane];
      value = std::bit_cast<float>(std::bit_cast<uint32_t>(value) & marked);
    }
  }
}

}  // namespace

PrunedOutput::PrunedOutput(const Shape& shape, double share, bool values, bool signs, int threads)
    : shape_(shape), share_(share), threads_(threads) {
  const int64_t masks = shape.rows * (shape.max_width / kLanes);
  if (signs) positive_.resize(masks);
  if (!values) return;
  kept_.resize(masks);
  const int64_t most = shape.rows * shape.max_width;
  packed_ = AlignedBuffer(most - sparsity::FractionOf(share, most) + 1);
  const int64_t chunks = (shape.rows + kChunkRows - 1) / kChunkRows;
  begin_.resize(chunks + 1);
  ties_.resize(chunks);
}

int64_t PrunedOutput::bytes() const {
  const auto masks = static_cast<int64_t>((kept_.size() + positive_.size()) * sizeof(uint16_t));
  const auto chunks = static_cast<int64_t>((begin_.size() + ties_.size()) * sizeof(int64_t));
  return masks + chunks + packed_.size() * static_cast<int64_t>(sizeof(float));
}

int64_t PrunedOutput::chunks() const { return static_cast<int64_t>(ties_.size()); }

RowRange PrunedOutput::Chunk(int64_t chunk) const {
  return {chunk * kChunkRows, std::min((chunk + 1) * kChunkRows, shape_.rows)};
}

template <typename Body>
void PrunedOutput::ForChunks(const Body& body) const {
  ParallelRows(threads_, chunks(), [&](RowRange range) {
    for (int64_t chunk = range.begin; chunk < range.end; ++chunk) body(chunk, Chunk(chunk));
  });
}

int64_t PrunedOutput::CountNonzeros(const float* data) const {
  std::vector<int64_t> counts(threads_);
  ParallelParts(threads_, [&](int part) {
    int64_t zeros = 0;
    const int64_t end = shape_.rows * (part + 1) / threads_;
    for (int64_t row = shape_.rows * part / threads_; row < end; ++row) {
      CountAgainst(data + row * shape_.stride, extent_.size, 0, counts[part], zeros);
    }
  });
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

PrunedOutput::Threshold PrunedOutput::FindThreshold(const float* data, int64_t kept) const {
  // Frequent after a ReLU: zeros need not be kept.
  if (CountNonzeros(data) <= kept) return {0, 0};
  Threshold threshold = {0, kept};
  for (const Digit digit : kDigits) {
    const int64_t bins = int64_t{1} << digit.bits;
    std::vector<uint32_t> histograms(threads_ * kHistograms * bins);
    ParallelParts(threads_, [&](int part) {
      uint32_t* own = histograms.data() + part * kHistograms * bins;
      const int64_t end = shape_.rows * (part + 1) / threads_;
      for (int64_t row = shape_.rows * part / threads_; row < end; ++row) {
        CountDigits(data + row * shape_.stride, extent_.size, digit, threshold.bits, own);
      }
    });
    const auto [bin, ties] = FindBin(histograms, bins, threshold.ties);
    threshold = {threshold.bits << digit.bits | static_cast<uint32_t>(bin), ties};
  }
  return threshold;
}

// Sets begin_ and ties_: ties go to the first chunks.
void PrunedOutput::PlanChunks(const float* data, const Threshold& threshold) {
  ForChunks([&](int64_t chunk, RowRange rows) {
    int64_t above = 0;
    int64_t equal = 0;
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      CountAgainst(data + row * shape_.stride, extent_.size, threshold.bits, above, equal);
    }
    begin_[chunk + 1] = above;
    ties_[chunk] = equal;
  });
  begin_[0] = 0;
  int64_t left = threshold.ties;
  for (int64_t chunk = 0; chunk < chunks(); ++chunk) {
    ties_[chunk] = std::min(ties_[chunk], left);
    left -= ties_[chunk];
    begin_[chunk + 1] += begin_[chunk] + ties_[chunk];
  }
}

// Adds to the marks of a row the first `ties` of its values that equal the threshold.
void PrunedOutput::MarkTies(const float* values, const Threshold& threshold, int64_t& ties,
                            uint16_t* marks) const {
  for (int64_t b = 0; b < extent_.size && ties > 0; ++b) {
    if (MagnitudeBits(values[b]) != threshold.bits) continue;
    marks[b / kLanes] = static_cast<uint16_t>(marks[b / kLanes] | 1U << (b % kLanes));
    --ties;
  }
}

void PrunedOutput::Pack(const float* data, const Threshold& threshold) {
  // Of a last block that is not full, the lanes of examples.
  const auto last = static_cast<uint16_t>((1U << ((extent_.size - 1) % kLanes + 1)) - 1);
  ForChunks([&](int64_t chunk, RowRange rows) {
    int64_t ties = ties_[chunk];
    float* next = packed_.data() + begin_[chunk];
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const float* values = data + row * shape_.stride;
      uint16_t* marks = kept_.data() + row * blocks();
      MarkAbove(values, blocks(), threshold.bits, marks);
      marks[blocks() - 1] &= last;
      MarkTies(values, threshold, ties, marks);
      for (int64_t block = 0; block < blocks(); ++block) {
        for (uint16_t kept = marks[block]; kept != 0;
             kept = static_cast<uint16_t>(kept & (kept - 1))) {
          *next++ = values[block * kLanes + std::countr_zero(kept)];
        }
      }
    }
  });
}

void PrunedOutput::KeepSigns(const float* data) {
  ParallelRows(threads_, shape_.rows, [&](RowRange rows) {
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      MarkPositive(data + row * shape_.stride, blocks(), positive_.data() + row * blocks());
    }
  });
}

void PrunedOutput::Keep(const float* data, Extent extent) {
  extent_ = extent;
  if (!positive_.empty()) KeepSigns(data);
  if (kept_.empty()) return;
  const int64_t number = shape_.rows * extent.size;
  const Threshold threshold = FindThreshold(data, number - sparsity::FractionOf(share_, number));
  PlanChunks(data, threshold);
  Pack(data, threshold);
}

void PrunedOutput::Restore(float* data) const {
  ForChunks([&](int64_t chunk, RowRange rows) {
    const float* next = packed_.data() + begin_[chunk];
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      float* values = data + row * shape_.stride;
      std::fill_n(values, extent_.width, 0.0F);
      for (int64_t block = 0; block < blocks(); ++block) {
        uint16_t kept = kept_[row * blocks() + block];
        for (; kept != 0; kept = static_cast<uint16_t>(kept & (kept - 1))) {
          values[block * kLanes + std::countr_zero(kept)] = *next++;
        }
      }
    }
  });
}

void PrunedOutput::MaskByPositive(float* delta, RowRange rows) const {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    ClearUnmarked(positive_.data() + row * blocks(), blocks(), delta + row * shape_.stride);
  }
}

}  // namespace espalier::worker::engine
