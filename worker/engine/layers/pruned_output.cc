#include "worker/engine/layers/pruned_output.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "common/sparsity/schedule.h"
#include "common/sparsity/selection.h"
#include "worker/engine/parallel.h"

namespace espalier::worker::engine {
namespace {

constexpr int64_t kChunkRows = 64;
// Magnitudes have 31 bits: the upper ones are counted first, then the lower ones of one bin.
constexpr int kLowBits = 15;
constexpr int64_t kUpperBins = 1 << 16;
constexpr int64_t kLowerBins = 1 << kLowBits;

using sparsity::MagnitudeBits;

// Calls body(bits of the magnitude) for the values of a range of rows that count.
template <typename Body>
void ForMagnitudes(const float* data, int64_t stride, int64_t size, RowRange rows,
                   const Body& body) {
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const float* values = data + row * stride;
    for (int64_t b = 0; b < size; ++b) body(MagnitudeBits(values[b]));
  }
}

// The bin in which the `wanted`-th largest lies, and how many of it are wanted.
std::pair<int64_t, int64_t> FindBin(const std::vector<uint32_t>& histograms, int threads,
                                    int64_t bins, int64_t wanted) {
  for (int64_t bin = bins - 1;; --bin) {
    int64_t count = 0;
    for (int part = 0; part < threads; ++part) count += histograms[part * bins + bin];
    if (count >= wanted || bin == 0) return {bin, wanted};
    wanted -= count;
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

PrunedOutput::Threshold PrunedOutput::FindThreshold(const float* data, int64_t kept) const {
  const auto count = [&](int64_t bins, const auto& bin_of) {
    std::vector<uint32_t> histograms(threads_ * bins);
    ParallelParts(threads_, [&](int part) {
      uint32_t* histogram = histograms.data() + part * bins;
      const RowRange rows = {shape_.rows * part / threads_, shape_.rows * (part + 1) / threads_};
      ForMagnitudes(data, shape_.stride, extent_.size, rows, [&](uint32_t bits) {
        const int64_t bin = bin_of(bits);
        if (bin >= 0) ++histogram[bin];
      });
    });
    return histograms;
  };
  const auto upper = count(kUpperBins, [](uint32_t bits) { return int64_t{bits >> kLowBits}; });
  const auto [high, in_bin] = FindBin(upper, threads_, kUpperBins, kept);
  const auto lower = count(kLowerBins, [high = high](uint32_t bits) {
    return int64_t{bits >> kLowBits} == high ? int64_t{bits & (kLowerBins - 1)} : -1;
  });
  const auto [low, ties] = FindBin(lower, threads_, kLowerBins, in_bin);
  const auto bits = static_cast<uint32_t>(high << kLowBits | low);
  return {bits, bits == 0 ? 0 : ties};
}

uint16_t PrunedOutput::KeptLanes(const float* data, int64_t count, const Threshold& threshold,
                                 int64_t& ties) {
  uint16_t kept = 0;
  uint16_t equal = 0;
  for (int64_t lane = 0; lane < count; ++lane) {
    const uint32_t bits = MagnitudeBits(data[lane]);
    kept = static_cast<uint16_t>(kept | (bits > threshold.bits ? 1U : 0U) << lane);
    equal = static_cast<uint16_t>(equal | (bits == threshold.bits ? 1U : 0U) << lane);
  }
  for (; equal != 0 && ties > 0; --ties) {
    const auto first = static_cast<uint16_t>(equal & -equal);
    kept = static_cast<uint16_t>(kept | first);
    equal = static_cast<uint16_t>(equal ^ first);
  }
  return kept;
}

// Sets begin_ and ties_: ties go to the first chunks.
void PrunedOutput::PlanChunks(const float* data, const Threshold& threshold) {
  ForChunks([&](int64_t chunk, RowRange rows) {
    int64_t above = 0;
    int64_t equal = 0;
    ForMagnitudes(data, shape_.stride, extent_.size, rows, [&](uint32_t bits) {
      above += bits > threshold.bits ? 1 : 0;
      equal += bits == threshold.bits ? 1 : 0;
    });
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

void PrunedOutput::Pack(const float* data, const Threshold& threshold) {
  ForChunks([&](int64_t chunk, RowRange rows) {
    int64_t ties = ties_[chunk];
    float* next = packed_.data() + begin_[chunk];
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const float* values = data + row * shape_.stride;
      for (int64_t block = 0; block < blocks(); ++block) {
        const float* lanes = values + block * kLanes;
        const int64_t count = std::min<int64_t>(kLanes, extent_.size - block * kLanes);
        uint16_t kept = KeptLanes(lanes, count, threshold, ties);
        kept_[row * blocks() + block] = kept;
        for (; kept != 0; kept = static_cast<uint16_t>(kept & (kept - 1))) {
          *next++ = lanes[std::countr_zero(kept)];
        }
      }
    }
  });
}

void PrunedOutput::KeepSigns(const float* data) {
  ParallelRows(threads_, shape_.rows, [&](RowRange rows) {
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const float* values = data + row * shape_.stride;
      for (int64_t block = 0; block < blocks(); ++block) {
        uint32_t positive = 0;
        for (int64_t lane = 0; lane < kLanes; ++lane) {
          positive |= (values[block * kLanes + lane] > 0.0F ? 1U : 0U) << lane;
        }
        positive_[row * blocks() + block] = static_cast<uint16_t>(positive);
      }
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
    float* values = delta + row * shape_.stride;
    for (int64_t block = 0; block < blocks(); ++block) {
      const uint16_t positive = positive_[row * blocks() + block];
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        float& value = values[block * kLanes + lane];
        value = (positive >> lane & 1) != 0 ? value : 0.0F;
      }
    }
  }
}

}  // namespace espalier::worker::engine
