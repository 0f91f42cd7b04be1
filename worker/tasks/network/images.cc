#include "worker/tasks/network/images.h"

#include <algorithm>

#include "common/base/rng.h"
#include "common/wire/model_spec/shapes.h"
#include "worker/data/batch.h"

namespace espalier::worker::tasks {

Images::Images(const v1::DataSpec& data, const v1::ModelSpec& model, int64_t stride)
    : stride_(stride),
      crop_padding_(data.augmentation().crop_padding()),
      flip_(data.augmentation().horizontal_flip()) {
  const wire::FeatureShape input = wire::InputShape(model);
  channels_ = input.channels;
  height_ = input.height;
  width_ = input.width;
  for (const double mean : data.channel_mean()) mean_.push_back(static_cast<float>(mean));
  for (const double std : data.channel_std()) scale_.push_back(static_cast<float>(1 / std));
  const data::Normalization normalization = data::NormalizationOf(data);
  for (int64_t c = 0; c < channels_; ++c) {
    outside_.push_back(mean_.empty() ? static_cast<float>(-normalization.mean / normalization.std)
                                     : -mean_[c] * scale_[c]);
  }
  if (input.image && (crop_padding_ > 0 || flip_)) {
    copy_ = engine::AlignedBuffer(channels_ * height_ * width_ * stride_);
  }
}

void Images::Normalize(float* batch, int64_t size) const {
  if (mean_.empty()) return;
  for (int64_t row = 0; row < channels_ * height_ * width_; ++row) {
    const int64_t channel = row / (height_ * width_);
    float* values = batch + row * stride_;
    for (int64_t b = 0; b < size; ++b) values[b] = (values[b] - mean_[channel]) * scale_[channel];
  }
}

void Images::Augment(uint64_t seed, uint64_t shard, uint64_t step, int64_t size, float* batch) {
  if (copy_.size() == 0) return;
  struct Change {
    int64_t down = 0;
    int64_t right = 0;
    bool flip = false;
  };
  std::vector<Change> changes(size);
  const auto span = static_cast<uint64_t>(2 * crop_padding_ + 1);
  for (int64_t b = 0; b < size; ++b) {
    base::Rng rng(base::StreamKey(seed, "augment", {shard, step, static_cast<uint64_t>(b)}));
    changes[b].down = static_cast<int64_t>(rng.Below(span)) - crop_padding_;
    changes[b].right = static_cast<int64_t>(rng.Below(span)) - crop_padding_;
    changes[b].flip = rng.Below(2) == 1 && flip_;
  }
  std::copy_n(batch, copy_.size(), copy_.data());
  const float* from = copy_.data();
  for (int64_t c = 0; c < channels_; ++c) {
    for (int64_t i = 0; i < height_; ++i) {
      for (int64_t j = 0; j < width_; ++j, batch += stride_) {
        for (int64_t b = 0; b < size; ++b) {
          const Change& change = changes[b];
          const int64_t row = i + change.down;
          const int64_t col = (change.flip ? width_ - 1 - j : j) + change.right;
          const bool inside = row >= 0 && row < height_ && col >= 0 && col < width_;
          batch[b] =
              inside ? from[((c * height_ + row) * width_ + col) * stride_ + b] : outside_[c];
        }
      }
    }
  }
}

}  // namespace espalier::worker::tasks
