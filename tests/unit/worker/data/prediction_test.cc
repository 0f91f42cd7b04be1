// Examples without labels, as a model is given them.
#include "worker/data/prediction/prediction.h"

#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::worker::data {
namespace {

class PredictionTest : public testing::Test {
 protected:
  // The rows of a file with these lines, for a model of `features` inputs.
  absl::StatusOr<std::vector<float>> Read(const std::string& lines, int64_t features,
                                          const LoadOptions& options = {}) {
    folder_.Write("new/rows.csv", lines);
    auto read = ReadForPrediction(folder_.path() + "/new/rows.csv", spec_, features, options);
    if (!read.ok()) return read.status();
    std::vector<float> values;
    const Dataset& dataset = read->dataset;
    for (int64_t i = 0; i < dataset.size() * features; ++i) {
      values.push_back(dataset.is_bytes() ? dataset.ByteRow(0)[i] : dataset.FloatRow(0)[i]);
    }
    return values;
  }

  DataFolder folder_;
  v1::DataSpec spec_;
};

TEST_F(PredictionTest, TheColumnOfTheLabelsIsPassedOverByItsPlace) {
  spec_.set_header(v1::DataSpec::HEADER_ABSENT);
  EXPECT_EQ(Read("1,2\n3,4\n", 2).value(), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(Read("1,2,9\n3,4,9\n", 2).value(), (std::vector<float>{1, 2, 3, 4}));
  spec_.set_label_column("0");
  EXPECT_EQ(Read("9,1,2\n9,3,4\n", 2).value(), (std::vector<float>{1, 2, 3, 4}));
}

TEST_F(PredictionTest, ColumnsThatWereLearnedArePassedOverByTheirPlaces) {
  spec_.set_header(v1::DataSpec::HEADER_ABSENT);
  spec_.set_target(v1::DataSpec::TARGET_VALUES);
  spec_.add_target_columns("0");
  EXPECT_EQ(Read("9,1,2\n9,3,4\n", 2).value(), (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(Read("1,2\n3,4\n", 2).value(), (std::vector<float>{1, 2, 3, 4}));
  spec_.add_target_columns("2");
  EXPECT_EQ(Read("9,1,8,2\n9,3,8,4\n", 2).value(), (std::vector<float>{1, 2, 3, 4}));
  const auto odd = Read("9,1,2\n9,3,4\n", 2);
  EXPECT_EQ(base::ReasonOf(odd.status()), "DATASET_INVALID") << odd.status();
}

TEST_F(PredictionTest, ExamplesKeepToTheMemoryThatThereIs) {
  spec_.set_header(v1::DataSpec::HEADER_ABSENT);
  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "1,2,3,4\n";
  LoadOptions options;
  options.max_memory_bytes = 1000;
  EXPECT_EQ(base::ReasonOf(Read(lines, 4, options).status()), "DATASET_TOO_LARGE");
}

TEST_F(PredictionTest, NamesThatNoFileCanHaveAreErrors) {
  const auto read = ReadForPrediction(std::string(5000, 'a'), spec_, 2, {});
  EXPECT_EQ(base::ReasonOf(read.status()), "FILE_NOT_FOUND") << read.status();
}

}  // namespace
}  // namespace espalier::worker::data
