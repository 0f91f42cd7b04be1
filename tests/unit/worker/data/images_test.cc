// Images in folders: what becomes of their pixels, classes and order, and what is refused by name.
#include "worker/data/images/images.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <map>
#include <string>
#include <vector>

#include "common/base/status.h"
#include "tests/unit/worker/data/image_files.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/data/images/codecs.h"
#include "worker/data/images/resize.h"
#include "worker/data/load.h"

namespace espalier::worker::data {
namespace {

using ::testing::AllOf;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::DataSpec Spec() {
  v1::DataSpec spec;
  spec.set_dataset("x");
  return spec;
}

std::vector<int> Values(const Dataset& dataset, int64_t row) {
  return {dataset.ByteRow(row), dataset.ByteRow(row) + dataset.features()};
}

std::vector<int> Labels(const Dataset& dataset) {
  return {dataset.labels().begin(), dataset.labels().end()};
}

// The values of a data set whose only image is `bytes`.
std::vector<int> Pixels(const std::string& bytes, const v1::DataSpec& spec = Spec()) {
  const DataFolder folder;
  folder.Write("x/train/0/a.png", bytes);
  const auto dataset = LoadDataset(folder.path(), spec);
  EXPECT_TRUE(dataset.ok()) << dataset.status();
  return dataset.ok() ? Values(**dataset, 0) : std::vector<int>();
}

// Why a data set with this file is refused.
std::string Refusal(const std::string& path, const std::string& bytes,
                    const LoadOptions& options = {}) {
  const DataFolder folder;
  folder.Write("x/train/cat/0.png", GreyPng(1, 2, {1, 2}));
  folder.Write("x/" + path, bytes);
  const absl::Status status = LoadDataset(folder.path(), Spec(), options).status();
  EXPECT_FALSE(status.ok());
  return base::MessageOf(status);
}

TEST(ImagesTest, FoldersAreClassesAndChannelsComeFirst) {
  const DataFolder folder;
  const PngSpec colour = {.width = 2, .height = 1, .color = PNG_COLOR_TYPE_RGB};
  folder.Write("x/train/dog/1.PNG", Png(colour, {1, 2, 3, 4, 5, 6}));
  folder.Write("x/train/cat/1.png", Png(colour, {7, 8, 9, 10, 11, 12}));
  folder.Write("x/test/dog/2.png", Png(colour, {0, 0, 0, 9, 9, 9}));
  folder.Write("x/README.md", "what this is");
  folder.Write("x/train/.DS_Store", "?");
  folder.Write("x/train/cat/Thumbs.db", "?");
  const auto dataset = LoadDataset(folder.path(), Spec()).value();
  EXPECT_EQ(dataset->format(), "images");
  EXPECT_EQ(dataset->size(), 3);
  EXPECT_EQ(dataset->train_rows(), 2);
  EXPECT_THAT(dataset->class_names(), ElementsAre("cat", "dog"));
  EXPECT_THAT(Labels(*dataset), ElementsAre(0, 1, 1));
  EXPECT_THAT(Values(*dataset, 0), ElementsAre(7, 10, 8, 11, 9, 12));
  EXPECT_THAT(Values(*dataset, 1), ElementsAre(1, 4, 2, 5, 3, 6));
  EXPECT_EQ(dataset->memory_bytes(), 3 * (6 + 4));
}

TEST(ImagesTest, NumbersAsFoldersAreTheLabels) {
  const DataFolder folder;
  for (const char* name : {"0", "2", "10"}) {
    folder.Write(std::string("x/") + name + "/a.png", GreyPng(1, 1, {5}));
  }
  const auto dataset = LoadDataset(folder.path(), Spec()).value();
  std::vector<int> labels = Labels(*dataset);
  std::sort(labels.begin(), labels.end());
  EXPECT_THAT(labels, ElementsAre(0, 2, 10));
  EXPECT_EQ(dataset->num_classes(), 11);
  EXPECT_TRUE(dataset->class_names().empty());
}

TEST(ImagesTest, EveryStretchHoldsEveryClassAlike) {
  const DataFolder folder;
  for (int i = 0; i < 80; ++i) {
    folder.Write(fmt::format("x/a/{}.png", i), GreyPng(1, 1, {static_cast<uint8_t>(i)}));
    if (i < 20) folder.Write(fmt::format("x/b/{}.png", i), GreyPng(1, 1, {200}));
  }
  const auto dataset = LoadDataset(folder.path(), Spec()).value();
  ASSERT_EQ(dataset->size(), 100);
  for (int begin = 0; begin < 100; begin += 20) {
    const auto labels = dataset->labels().subspan(static_cast<size_t>(begin), 20);
    EXPECT_EQ(std::count(labels.begin(), labels.end(), 1), 4) << begin;
  }
  // Within a class the order has nothing to do with that of the names.
  std::vector<int> values;
  for (int row = 0; row < 100; ++row) {
    if (dataset->label(row) == 0) values.push_back(Values(*dataset, row)[0]);
  }
  int ascents = 0;
  for (size_t i = 1; i < values.size(); ++i) ascents += values[i] > values[i - 1];
  EXPECT_GT(ascents, 20);
  EXPECT_LT(ascents, 60);
}

TEST(ImagesTest, ClassesOfAllSitesAreNumberedByTheirAgreement) {
  const DataFolder folder;
  folder.Write("x/dog/1.png", GreyPng(1, 1, {1}));
  v1::DataSpec spec = Spec();
  for (const char* name : {"bird", "cat", "dog"}) spec.mutable_agreement()->add_classes(name);
  const auto dataset = LoadDataset(folder.path(), spec).value();
  EXPECT_THAT(Labels(*dataset), ElementsAre(2));
  EXPECT_EQ(dataset->num_classes(), 3);
  folder.Write("x/wolf/1.png", GreyPng(1, 1, {1}));
  EXPECT_THAT(base::MessageOf(LoadDataset(folder.path(), spec).status()),
              AllOf(HasSubstr("x/wolf"), HasSubstr("agreed")));
}

TEST(ImagesTest, EveryKindOfPngBecomesBytes) {
  EXPECT_THAT(Pixels(GreyPng(2, 2, {1, 2, 3, 255})), ElementsAre(1, 2, 3, 255));
  // 16 bits are rounded: 0x0180 is 1.49 of 255, 0x80FF is 128.5.
  EXPECT_THAT(Pixels(Png({.width = 2, .depth = 16}, {0x01, 0x80, 0x80, 0xFF})),
              ElementsAre(1, 128));
  // One bit is spread: 0b10100000.
  EXPECT_THAT(Pixels(Png({.width = 3, .depth = 1}, {0xA0})), ElementsAre(255, 0, 255));
  EXPECT_THAT(Pixels(Png({.width = 2, .color = PNG_COLOR_TYPE_GRAY_ALPHA}, {200, 255, 200, 51})),
              ElementsAre(200, 40));
  EXPECT_THAT(Pixels(Png({.width = 2, .color = PNG_COLOR_TYPE_RGB_ALPHA},
                         {10, 20, 30, 255, 10, 20, 30, 0})),
              ElementsAre(10, 0, 20, 0, 30, 0));
  EXPECT_THAT(
      Pixels(Png({.width = 2, .color = PNG_COLOR_TYPE_PALETTE, .palette = {{1, 2, 3}, {4, 5, 6}}},
                 {1, 0})),
      ElementsAre(4, 1, 5, 2, 6, 3));
  std::vector<uint8_t> ramp(9 * 9);
  for (size_t i = 0; i < ramp.size(); ++i) ramp[i] = static_cast<uint8_t>(i);
  EXPECT_EQ(Pixels(Png({.width = 9, .height = 9, .interlaced = true}, ramp)),
            std::vector<int>(ramp.begin(), ramp.end()));
}

TEST(ImagesTest, JpegsAreReadInGreyAndColourAndProgressive) {
  const std::vector<uint8_t> grey(64, 77);
  EXPECT_THAT(Pixels(Jpeg({.color = JCS_GRAYSCALE}, grey)), Each(77));
  std::vector<uint8_t> red;
  for (int i = 0; i < 64; ++i) red.insert(red.end(), {254, 0, 0});
  for (const bool progressive : {false, true}) {
    const std::vector<int> values = Pixels(Jpeg({.progressive = progressive}, red));
    ASSERT_EQ(values.size(), 192u);
    EXPECT_EQ(std::vector<int>(values.begin(), values.begin() + 64), std::vector<int>(64, 254));
    EXPECT_EQ(std::vector<int>(values.begin() + 64, values.end()), std::vector<int>(128, 0));
  }
}

TEST(ImagesTest, ExifTurnsImagesUpright) {
  // 1 2 3
  // 4 5 6
  const std::map<int, std::vector<int>> shown = {
      {1, {1, 2, 3, 4, 5, 6}}, {2, {3, 2, 1, 6, 5, 4}}, {3, {6, 5, 4, 3, 2, 1}},
      {4, {4, 5, 6, 1, 2, 3}}, {5, {1, 4, 2, 5, 3, 6}}, {6, {4, 1, 5, 2, 6, 3}},
      {7, {6, 3, 5, 2, 4, 1}}, {8, {3, 6, 2, 5, 1, 4}}, {9, {1, 2, 3, 4, 5, 6}}};
  for (const auto& [orientation, values] : shown) {
    const PngSpec spec = {.width = 3, .height = 2, .exif = Exif(static_cast<uint8_t>(orientation))};
    EXPECT_EQ(Pixels(Png(spec, {1, 2, 3, 4, 5, 6})), values) << orientation;
  }
  std::vector<uint8_t> marker = {'E', 'x', 'i', 'f', 0, 0};
  for (const uint8_t byte : Exif(6)) marker.push_back(byte);
  const DataFolder folder;
  folder.Write("x/train/0/a.jpg", Jpeg({.width = 16, .exif = marker}, std::vector<uint8_t>(384)));
  std::vector<std::string> problems;
  const auto found = ScanDataRoot(folder.path(), problems);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].image_height(), 16);
  EXPECT_EQ(found[0].image_width(), 8);
}

TEST(ImagesTest, ExifThatIsCutOrLiesIsPassedOver) {
  const std::vector<uint8_t> whole = Exif(6);
  EXPECT_EQ(ExifOrientation(whole), 6);
  for (size_t size = 0; size < 18; ++size) {
    EXPECT_EQ(ExifOrientation(std::span(whole).first(size)), 1) << size;
  }
  std::vector<uint8_t> far = whole;
  far[4] = far[5] = far[6] = far[7] = 0xFF;
  EXPECT_EQ(ExifOrientation(far), 1);
}

TEST(ImagesTest, SizesThatDifferAreRefusedOrBroughtToOne) {
  const DataFolder folder;
  folder.Write("x/a/1.png", GreyPng(2, 2, {10, 20, 30, 40}));
  folder.Write("x/b/1.png", Png({.width = 4, .height = 2, .color = PNG_COLOR_TYPE_RGB},
                                std::vector<uint8_t>(24, 90)));
  EXPECT_THAT(base::MessageOf(LoadDataset(folder.path(), Spec()).status()),
              AllOf(HasSubstr("x/b/1.png"), HasSubstr("1 × 2 × 2"), HasSubstr("3 × 2 × 4"),
                    HasSubstr("x/a/1.png"), HasSubstr("data.image_size")));
  v1::DataSpec spec = Spec();
  spec.mutable_image_size()->set_height(2);
  spec.mutable_image_size()->set_width(2);
  EXPECT_THAT(base::MessageOf(LoadDataset(folder.path(), spec).status()), HasSubstr("3 × 2 × 2"));
  spec.mutable_image_size()->set_channels(1);
  const auto dataset = LoadDataset(folder.path(), spec).value();
  EXPECT_THAT(Values(*dataset, 0), ElementsAre(10, 20, 30, 40));
  EXPECT_THAT(Values(*dataset, 1), Each(90));
  spec.mutable_image_size()->set_channels(3);
  EXPECT_THAT(Values(*LoadDataset(folder.path(), spec).value(), 0),
              ElementsAre(10, 20, 30, 40, 10, 20, 30, 40, 10, 20, 30, 40));
}

TEST(ImagesTest, ScalingWeighsNeighboursAndCutsTheMiddle) {
  const Image row = {{1, 1, 4}, {0, 100, 200, 40}};
  // Halved: each output weighs the inputs around it 1 : 3 : 3 : 1, at the edges without the first.
  const Image half = ScaledAndCropped({{1, 2, 4}, {0, 100, 200, 40, 0, 100, 200, 40}}, 1, 2);
  EXPECT_THAT(half.values, ElementsAre(71, 117));
  // Doubled: 1 : 3 between neighbours, and the edges as they are.
  const Image twice = ScaledAndCropped({{1, 1, 2}, {0, 100}}, 2, 4);
  EXPECT_THAT(twice.values, ElementsAre(0, 25, 75, 100, 0, 25, 75, 100));
  // As high as it should be, and too wide: the middle.
  EXPECT_THAT(ScaledAndCropped(row, 1, 2).values, ElementsAre(100, 200));
  EXPECT_THAT(ScaledAndCropped(row, 1, 4).values, ElementsAre(0, 100, 200, 40));
}

TEST(ImagesTest, FilesThatAreNoImagesAreNamed) {
  const std::string png = GreyPng(8, 8, std::vector<uint8_t>(64, 3));
  const std::string jpeg = Jpeg({.width = 64, .height = 64}, std::vector<uint8_t>(3 * 64 * 64, 9));
  const std::string path = "train/cat/bad.png";
  EXPECT_THAT(Refusal(path, ""), AllOf(HasSubstr("x/train/cat/bad.png"), HasSubstr("empty file")));
  EXPECT_THAT(Refusal(path, "GIF89a..."), AllOf(HasSubstr("bad.png"), HasSubstr("a GIF")));
  EXPECT_THAT(Refusal(path, png.substr(0, 60)), HasSubstr("x/train/cat/bad.png"));
  EXPECT_THAT(Refusal(path, png.substr(0, 20)), HasSubstr("the file ends early"));
  EXPECT_THAT(Refusal(path, jpeg.substr(0, jpeg.size() / 2)),
              AllOf(HasSubstr("bad.png"), HasSubstr("a complete JPEG image")));
  std::string damaged = png;
  damaged[45] = static_cast<char>(damaged[45] ^ 0x55);
  EXPECT_THAT(Refusal(path, damaged), HasSubstr("a complete PNG image"));
  EXPECT_THAT(Refusal("train/cat/print.jpg", Jpeg({.color = JCS_CMYK}, std::vector<uint8_t>(256))),
              AllOf(HasSubstr("print.jpg"), HasSubstr("CMYK")));
  EXPECT_THAT(Refusal("train/cat/notes.txt", "hello"), HasSubstr("x/train/cat/notes.txt"));
  EXPECT_THAT(Refusal("train/cat/more/1.png", png), HasSubstr("x/train/cat/more"));
  EXPECT_THAT(Refusal("train/loose.png", png), HasSubstr("x/train/loose.png"));
  EXPECT_THAT(Refusal("train/dog/.keep", ""),
              AllOf(HasSubstr("x/train/dog"), HasSubstr("no image")));
}

TEST(ImagesTest, EveryCutAndEveryFlippedByteIsAnErrorOrAnImage) {
  const std::vector<uint8_t> values(3 * 16 * 16, 120);
  for (std::string bytes :
       {Png({.width = 16, .height = 16, .color = PNG_COLOR_TYPE_RGB, .exif = Exif(3)}, values),
        Jpeg({.width = 16, .height = 16}, values),
        Jpeg({.width = 16, .height = 16, .progressive = true}, values)}) {
    const LoadOptions options = {.max_memory_bytes = 64 << 20};
    for (size_t i = 0; i < bytes.size(); ++i) {
      const EncodedImage cut = {"x", {bytes.begin(), bytes.begin() + static_cast<long>(i)}};
      EXPECT_FALSE(DecodeImage(cut, options, 0).ok()) << i;
      bytes[i] = static_cast<char>(bytes[i] ^ 0xFF);
      const EncodedImage flipped = {"x", {bytes.begin(), bytes.end()}};
      const auto image = DecodeImage(flipped, options, 0);
      if (image.ok()) {
        EXPECT_EQ(image->dims.values(), static_cast<int64_t>(image->values.size()));
      }
      bytes[i] = static_cast<char>(bytes[i] ^ 0xFF);
    }
  }
}

// A PNG whose head declares so many pixels and whose data are those of a small one.
std::string Bomb(uint32_t width, uint32_t height) {
  std::string bytes = GreyPng(4, 4, std::vector<uint8_t>(16));
  bytes.replace(16, 8, BigEndian(width) + BigEndian(height));
  const auto* head = reinterpret_cast<const Bytef*>(bytes.data()) + 12;
  bytes.replace(29, 4, BigEndian(static_cast<uint32_t>(crc32(0, head, 17))));
  return bytes;
}

TEST(ImagesTest, HugeImagesAreRefusedBeforeTheyAreDecoded) {
  EXPECT_THAT(Refusal("train/cat/bomb.png", Bomb(1'000'000, 1'000'000)),
              AllOf(HasSubstr("x/train/cat/bomb.png"), HasSubstr("at most 134217728 pixels")));
  EXPECT_THAT(Refusal("train/cat/bomb.png", Bomb(10'000, 10'000), {.max_memory_bytes = 8 << 20}),
              AllOf(HasSubstr("x/train/cat/bomb.png"), HasSubstr("--max-dataset-bytes")));
  v1::DataSpec spec = Spec();
  spec.mutable_image_size()->set_height(1);
  spec.mutable_image_size()->set_width(4096);
  const DataFolder folder;
  folder.Write("x/a/1.png", GreyPng(10'000, 1, std::vector<uint8_t>(10'000)));
  EXPECT_EQ(
      base::ReasonOf(LoadDataset(folder.path(), spec, {.max_memory_bytes = 8 << 20}).status()),
      "DATASET_TOO_LARGE");
}

TEST(ImagesTest, LoadsAreCancelled) {
  const DataFolder folder;
  folder.Write("x/a/1.png", GreyPng(1, 1, {1}));
  const std::atomic<bool> cancelled = true;
  EXPECT_TRUE(
      absl::IsCancelled(LoadDataset(folder.path(), Spec(), {.cancelled = &cancelled}).status()));
}

TEST(ImagesTest, FlatTrainAndTestFoldersAreNotTwoClasses) {
  const DataFolder folder;
  folder.Write("x/train/cat1.png", GreyPng(1, 1, {1}));
  folder.Write("x/test/1.png", GreyPng(1, 1, {1}));
  EXPECT_THAT(base::MessageOf(LoadDataset(folder.path(), Spec()).status()),
              AllOf(HasSubstr("x/train"), HasSubstr("train/CLASS/")));
}

TEST(ImagesTest, ATrainIsAClassBesideOtherVehicles) {
  const DataFolder folder;
  folder.Write("x/train/1.png", GreyPng(1, 1, {1}));
  folder.Write("x/bus/1.png", GreyPng(1, 1, {1}));
  EXPECT_THAT(LoadDataset(folder.path(), Spec()).value()->class_names(),
              ElementsAre("bus", "train"));
}

TEST(ImagesTest, ValidationImagesAreTheTestWhereThereIsNoTest) {
  const DataFolder folder;
  folder.Write("x/train/a/1.png", GreyPng(1, 1, {1}));
  folder.Write("x/val/a/1.png", GreyPng(1, 1, {2}));
  EXPECT_EQ(Values(*LoadDataset(folder.path(), Spec()).value(), 1)[0], 2);
  folder.Write("x/test/a/1.png", GreyPng(1, 1, {3}));
  const auto dataset = LoadDataset(folder.path(), Spec()).value();
  EXPECT_EQ(dataset->size(), 2);
  EXPECT_EQ(Values(*dataset, 1)[0], 3);
}

TEST(ImagesTest, LinksOutOfTheRootAreRefusedInEveryFolder) {
  const DataFolder outside;
  outside.Write("dog/1.png", GreyPng(1, 1, {1}));
  const DataFolder folder;
  folder.Write("x/train/cat/1.png", GreyPng(1, 1, {1}));
  const std::string inside = folder.path() + "/x/train/cat/link.png";
  std::filesystem::create_symlink(outside.path() + "/dog/1.png", inside);
  EXPECT_EQ(base::ReasonOf(LoadDataset(folder.path(), Spec()).status()), "PATH_OUTSIDE_DATA_ROOT");
  std::filesystem::remove(inside);
  std::filesystem::create_symlink(outside.path() + "/dog", folder.path() + "/x/train/dog");
  EXPECT_EQ(base::ReasonOf(LoadDataset(folder.path(), Spec()).status()), "PATH_OUTSIDE_DATA_ROOT");
}

TEST(ImagesTest, WorkersSayWhatTheFoldersHold) {
  const DataFolder folder;
  folder.Write("x/train/a/1.png", GreyPng(2, 3, std::vector<uint8_t>(6)));
  folder.Write("x/train/b/1.png", GreyPng(2, 3, std::vector<uint8_t>(6)));
  folder.Write("x/test/a/1.png", GreyPng(2, 3, std::vector<uint8_t>(6)));
  std::vector<std::string> problems;
  auto found = ScanDataRoot(folder.path(), problems);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].format(), "images");
  EXPECT_EQ(found[0].train_examples(), 2);
  EXPECT_EQ(found[0].test_examples(), 1);
  EXPECT_EQ(found[0].features(), 6);
  EXPECT_EQ(found[0].image_height(), 2);
  EXPECT_EQ(found[0].image_width(), 3);
  EXPECT_THAT(found[0].class_names(), ElementsAre("a", "b"));
  folder.Write("x/test/a/1.png", GreyPng(1, 1, {1}));
  found = ScanDataRoot(folder.path(), problems);
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].image_height(), 0);
  EXPECT_TRUE(problems.empty());
  folder.Write("x/train/b/2.png", "no image");
  EXPECT_TRUE(ScanDataRoot(folder.path(), problems)[0].features() == 0);
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0], HasSubstr("x/train/b/2.png"));
}

TEST(ImagesTest, ChangedFilesAreReadAgainAndChangeTheDigest) {
  const DataFolder folder;
  folder.Write("x/a/1.png", GreyPng(1, 1, {1}));
  DatasetCache cache(folder.path());
  const DataRoot root = DataRoot::Open(folder.path()).value();
  const std::string digest = DigestOfImages(root, "x", {}).value();
  const auto first = cache.Get(Spec()).value();
  EXPECT_EQ(cache.Get(Spec()).value(), first);
  folder.Write("x/a/1.png", GreyPng(1, 2, {1, 2}));
  EXPECT_EQ(cache.Get(Spec()).value()->features(), 2);
  EXPECT_NE(DigestOfImages(root, "x", {}).value(), digest);
}

TEST(ImagesTest, OtherFormatsNamesGoFirstUnlessTheJobSaysImages) {
  const DataFolder folder;
  folder.Write("x/train.csv", "1,2,0\n");
  folder.Write("x/a/1.png", GreyPng(1, 1, {1}));
  EXPECT_EQ(LoadDataset(folder.path(), Spec()).value()->format(), "csv");
  v1::DataSpec spec = Spec();
  spec.set_format(v1::DataSpec::FORMAT_IMAGES);
  EXPECT_EQ(LoadDataset(folder.path(), spec).value()->format(), "images");
}

}  // namespace
}  // namespace espalier::worker::data
