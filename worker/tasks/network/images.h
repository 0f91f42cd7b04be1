// What is done to batches: normalisation of images by channel and of tables by column, and random
// crops and flips of images.
//
// Shapes:      batches are feature-major [channels·height·width][stride] with `size` examples; a
//              column of a table is a channel of one position.
// Determinism: example i of step s is changed by draws of StreamKey(seed, "augment", {shard, s,
//              i}), so that a step sees the same images whichever worker does it.
// Threading:   one caller at a time.
// Source:      shift by padding and cropping, and flip: He et al. 2015, section 4.2.
#pragma once

#include <cstdint>
#include <vector>

#include "espalier/v1/data.pb.h"
#include "espalier/v1/model.pb.h"
#include "worker/engine/aligned_buffer.h"

namespace espalier::worker::tasks {

class Images {
 public:
  // For valid specs; does nothing when they ask for nothing.
  Images(const v1::DataSpec& data, const v1::ModelSpec& model, int64_t stride);

  // (value − channel_mean) / channel_std where the job has them. Padding stays zero.
  void Normalize(float* batch, int64_t size) const;
  // Shifts and flips each example.
  void Augment(uint64_t seed, uint64_t shard, uint64_t step, int64_t size, float* batch);

 private:
  int64_t channels_ = 0;
  int64_t height_ = 0;
  int64_t width_ = 0;
  int64_t stride_;
  int64_t crop_padding_;
  bool flip_;
  std::vector<float> mean_;     // by channel; empty: none
  std::vector<float> scale_;    // 1 / std
  std::vector<float> outside_;  // what raw 0 becomes, by channel
  engine::AlignedBuffer copy_;  // the batch before it is changed
};

}  // namespace espalier::worker::tasks
