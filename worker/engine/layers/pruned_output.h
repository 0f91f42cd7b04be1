// PrunedOutput: what is kept of a layer's output between the forward and the backward pass when
// small activations are dropped (scaled activation pruning, FedMef).
//
// Of the values that count (features × examples of the batch) the (1 − share) · number largest in
// magnitude are kept, of the whole tensor; among equals the lower (feature, example) stays. Zeros
// need no room and are not stored.
// Memory:      a bit and 4 · (1 − share) bytes per value, and one more bit when signs are kept, for
//              the largest batch; while Keep() runs 256 KiB per thread.
// Threading:   one caller at a time; work is split over threads. Determinism: the same bits for any
//              number of threads.
// Source:      Huang et al., FedMef, CVPR 2024.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/engine/activation.h"
#include "worker/engine/aligned_buffer.h"
#include "worker/engine/weight_matrix.h"

namespace espalier::worker::engine {

class PrunedOutput {
 public:
  struct Shape {
    int64_t rows = 0;       // features
    int64_t stride = 0;     // floats between two of them, where they are not pruned
    int64_t max_width = 0;  // of a batch
  };
  // `values`: whether Restore() will be called; `signs`: whether MaskByPositive() will be.
  PrunedOutput(const Shape& shape, double share, bool values, bool signs, int threads);

  // Takes what is to be kept of `data`, [rows][stride].
  void Keep(const float* data, Extent extent);
  // Writes the kept values and zeros for all others, columns [0, width) of the extent kept.
  void Restore(float* data) const;
  // delta = 0 where the output was not positive: the gradient of ReLU.
  void MaskByPositive(float* delta, RowRange rows) const;

  int64_t bytes() const;

 private:
  // The smallest magnitude that is kept, as bits, and how many of those that equal it are.
  struct Threshold {
    uint32_t bits = 0;
    int64_t ties = 0;
  };
  int64_t CountNonzeros(const float* data) const;
  Threshold FindThreshold(const float* data, int64_t kept) const;
  void MarkTies(const float* values, const Threshold& threshold, int64_t& ties,
                uint16_t* marks) const;
  void PlanChunks(const float* data, const Threshold& threshold);
  void Pack(const float* data, const Threshold& threshold);
  void KeepSigns(const float* data);
  int64_t blocks() const { return extent_.width / kLanes; }
  int64_t chunks() const;
  RowRange Chunk(int64_t chunk) const;
  template <typename Body>
  void ForChunks(const Body& body) const;

  Shape shape_;
  double share_;
  int threads_;
  Extent extent_;
  std::vector<uint16_t> kept_;      // [rows][blocks]
  std::vector<uint16_t> positive_;  // the same
  AlignedBuffer packed_;
  // By chunk of rows: where its values begin in packed_, and how many ties it keeps.
  std::vector<int64_t> begin_;
  std::vector<int64_t> ties_;
};

}  // namespace espalier::worker::engine
