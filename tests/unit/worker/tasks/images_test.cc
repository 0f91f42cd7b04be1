#include "worker/tasks/network/images.h"

#include <gtest/gtest.h>

#include <set>

namespace espalier::worker::tasks {
namespace {

constexpr int64_t kStride = 16;
constexpr int64_t kSize = 12;

// 2 channels of 3 × 4.
v1::ModelSpec Model() {
  v1::ModelSpec model;
  model.mutable_input_image()->set_channels(2);
  model.mutable_input_image()->set_height(3);
  model.mutable_input_image()->set_width(4);
  return model;
}

// The value of each pixel names it: 1 to 24 in every example; padding 0.
std::vector<float> Numbered() {
  std::vector<float> batch(24 * kStride);
  for (int64_t row = 0; row < 24; ++row) {
    for (int64_t b = 0; b < kSize; ++b) batch[row * kStride + b] = static_cast<float>(row + 1);
  }
  return batch;
}

std::vector<float> ImageOf(const std::vector<float>& batch, int64_t example) {
  std::vector<float> image;
  for (int64_t row = 0; row < 24; ++row) image.push_back(batch[row * kStride + example]);
  return image;
}

std::vector<float> Augmented(const v1::DataSpec& data, uint64_t seed, uint64_t shard,
                             uint64_t step) {
  std::vector<float> batch = Numbered();
  Images(data, Model(), kStride).Augment(seed, shard, step, kSize, batch.data());
  return batch;
}

TEST(ImagesTest, NormalizationIsByChannelAndSparesThePadding) {
  v1::DataSpec data;
  for (const double mean : {1.0, -2.0}) data.add_channel_mean(mean);
  for (const double std : {2.0, 0.5}) data.add_channel_std(std);
  std::vector<float> batch = Numbered();
  Images(data, Model(), kStride).Normalize(batch.data(), kSize);
  EXPECT_FLOAT_EQ(batch[5 * kStride + 3], (6.0F - 1) / 2);
  EXPECT_FLOAT_EQ(batch[20 * kStride + 11], (21.0F + 2) / 0.5F);
  EXPECT_EQ(batch[20 * kStride + 12], 0);
}

TEST(ImagesTest, WithoutSettingsNothingChanges) {
  std::vector<float> batch = Numbered();
  Images images(v1::DataSpec(), Model(), kStride);
  images.Normalize(batch.data(), kSize);
  images.Augment(1, 2, 3, kSize, batch.data());
  EXPECT_EQ(batch, Numbered());
}

TEST(ImagesTest, FlipMirrorsAboutHalfOfTheExamples) {
  v1::DataSpec data;
  data.mutable_augmentation()->set_horizontal_flip(true);
  std::vector<float> mirrored;
  for (int row = 0; row < 24; ++row) {
    mirrored.push_back(static_cast<float>(row / 4 * 4 + 3 - row % 4 + 1));
  }
  int flipped = 0;
  for (uint64_t step = 0; step < 50; ++step) {
    const std::vector<float> batch = Augmented(data, 1, 0, step);
    for (int64_t b = 0; b < kSize; ++b) {
      const std::vector<float> image = ImageOf(batch, b);
      if (image == mirrored) {
        ++flipped;
      } else {
        ASSERT_EQ(image, ImageOf(Numbered(), b));
      }
    }
  }
  EXPECT_NEAR(flipped, 300, 60);
}

TEST(ImagesTest, CropShiftsBothChannelsAlikeAndFillsWithRawZero) {
  v1::DataSpec data;
  data.set_mean(1);
  data.set_std(4);
  data.mutable_augmentation()->set_crop_padding(1);
  constexpr float kOutside = -0.25F;
  std::set<std::pair<int, int>> shifts;
  for (uint64_t step = 0; step < 50; ++step) {
    const std::vector<float> batch = Augmented(data, 1, 0, step);
    for (int64_t b = 0; b < kSize; ++b) {
      const std::vector<float> image = ImageOf(batch, b);
      // A pixel in the middle of the map stays inside whatever the shift.
      const int source = static_cast<int>(image[1 * 4 + 1]) - 1;
      const int down = source / 4 - 1;
      const int right = source % 4 - 1;
      shifts.emplace(down, right);
      for (int row = 0; row < 24; ++row) {
        const int i = row / 4 % 3 + down;
        const int j = row % 4 + right;
        const bool inside = i >= 0 && i < 3 && j >= 0 && j < 4;
        const float expected =
            inside ? static_cast<float>(row / 12 * 12 + i * 4 + j + 1) : kOutside;
        ASSERT_EQ(image[row], expected) << "pixel " << row;
      }
    }
    for (int64_t b = kSize; b < kStride; ++b) ASSERT_EQ(batch[b], 0) << "padding";
  }
  EXPECT_EQ(shifts.size(), 9u);
}

TEST(ImagesTest, DrawsDependOnSeedShardAndStepAlone) {
  v1::DataSpec data;
  data.mutable_augmentation()->set_crop_padding(1);
  data.mutable_augmentation()->set_horizontal_flip(true);
  const std::vector<float> batch = Augmented(data, 1, 2, 3);
  EXPECT_EQ(Augmented(data, 1, 2, 3), batch);
  EXPECT_NE(Augmented(data, 2, 2, 3), batch);
  EXPECT_NE(Augmented(data, 1, 3, 3), batch);
  EXPECT_NE(Augmented(data, 1, 2, 4), batch);
}

}  // namespace
}  // namespace espalier::worker::tasks
