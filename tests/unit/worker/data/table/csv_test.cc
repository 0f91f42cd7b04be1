#include "worker/data/table/csv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/base/status.h"
#include "tests/unit/worker/data/test_files.h"
#include "worker/data/load.h"

namespace espalier::worker::data {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CsvTest : public ::testing::Test {
 protected:
  CsvTest() { spec_.set_dataset("x"); }

  std::shared_ptr<const Dataset> Load() {
    auto dataset = LoadDataset(folder_.path(), spec_);
    EXPECT_TRUE(dataset.ok()) << dataset.status();
    return dataset.ok() ? *dataset : nullptr;
  }
  std::string Error() {
    const auto dataset = LoadDataset(folder_.path(), spec_);
    EXPECT_FALSE(dataset.ok());
    return base::MessageOf(dataset.status());
  }
  v1::DatasetInfo Describe() {
    const auto root = DataRoot::Open(folder_.path());
    auto info = DescribeDataset(*root, spec_, {});
    EXPECT_TRUE(info.ok()) << info.status();
    return info.ok() ? *info : v1::DatasetInfo();
  }
  std::vector<int> Row(const Dataset& dataset, int64_t row) {
    const uint8_t* values = dataset.ByteRow(row);
    return {values, values + dataset.features()};
  }
  std::vector<int> Labels(const Dataset& dataset) {
    return {dataset.labels().begin(), dataset.labels().end()};
  }

  DataFolder folder_;
  v1::DataSpec spec_;
};

TEST_F(CsvTest, TestColumnsAreFoundByName) {
  folder_.Write("x/train.csv", "a,b,kind\n1,2,0\n3,4,1\n");
  folder_.Write("x/test.csv", "kind,b,a\n1,20,10\n");
  const auto dataset = Load();
  EXPECT_THAT(Row(*dataset, 2), ElementsAre(10, 20));
  EXPECT_THAT(Labels(*dataset), ElementsAre(0, 1, 1));
}

TEST_F(CsvTest, MissingAndAdditionalColumnsAreNamed) {
  folder_.Write("x/train.csv", "a,b,kind\n1,2,0\n");
  folder_.Write("x/test.csv", "a,c,kind\n1,2,0\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr("x/test.csv"), HasSubstr("'b'"), HasSubstr("'c'")));
}

TEST_F(CsvTest, ColumnsAndClassesAreThoseThatTheSitesAgreedOn) {
  folder_.Write("x/train.csv", "kind,b,a\nbee,2,1\ncat,4,3\n");
  v1::Agreement& agreement = *spec_.mutable_agreement();
  agreement.add_columns()->set_name("a");
  agreement.add_columns()->set_name("b");
  agreement.set_label_column("kind");
  for (const char* name : {"ant", "bee", "cat"}) agreement.add_classes(name);
  const auto dataset = Load();
  EXPECT_THAT(Row(*dataset, 0), ElementsAre(1, 2));
  EXPECT_THAT(Labels(*dataset), ElementsAre(1, 2));
  agreement.mutable_classes()->RemoveLast();
  EXPECT_THAT(Error(), AllOf(HasSubstr("line 3"), HasSubstr("'cat'"), HasSubstr("'ant', 'bee'")));
}

TEST_F(CsvTest, LabelColumnByNameOrPlace) {
  folder_.Write("x/d.csv", "kind,a,b\n1,2,1600\n0,4,5\n");
  spec_.set_label_column("kind");
  EXPECT_THAT(Labels(*Load()), ElementsAre(1, 0));
  spec_.set_label_column("0");
  EXPECT_THAT(Labels(*Load()), ElementsAre(1, 0));
  spec_.set_label_column("sort");
  EXPECT_THAT(Error(), AllOf(HasSubstr("'sort'"), HasSubstr("'kind', 'a', 'b'")));
}

TEST_F(CsvTest, HeaderOfNumbersWithAWordForTheLabelIsSeen) {
  folder_.Write("x/d.csv", "0,1,2,label\n5,6,7,0\n8,9,1,1\n");
  const auto dataset = Load();
  EXPECT_EQ(dataset->size(), 2);
  EXPECT_EQ(dataset->num_classes(), 2);
  folder_.Write("x/d.csv", "0,1,2,label\n5,6,7,dog\n3,2,1,cat\n");
  EXPECT_THAT(Describe().class_names(), ElementsAre("cat", "dog"));
  folder_.Write("x/d.csv", "4,1,2,cat\n5,6,7,dog\n");
  EXPECT_EQ(Load()->size(), 2) << "numbers that are not the places of their columns";
}

TEST_F(CsvTest, HeaderThatCannotBeToldIsAskedFor) {
  folder_.Write("x/d.csv", "0,1,2,3\n5,6,7,0\n8,9,1,1\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr("line 1"), HasSubstr("data.header")));
  spec_.set_header(v1::DataSpec::HEADER_PRESENT);
  EXPECT_EQ(Load()->size(), 2);
  spec_.set_header(v1::DataSpec::HEADER_UNSPECIFIED);
  spec_.set_words(v1::DataSpec::WORDS_ONE_HOT);
  folder_.Write("x/d.csv", "red,small,0\nblue,large,1\n");
  const auto root = DataRoot::Open(folder_.path());
  EXPECT_THAT(base::MessageOf(DescribeDataset(*root, spec_, {}).status()),
              AllOf(HasSubstr("'red', 'small', '0'"), HasSubstr("data.header")));
  folder_.Write("x/d.csv", "color,size,kind\nblue,large,1\n");
  EXPECT_EQ(Describe().train_examples(), 1) << "its label is a word, and the second a number";
}

TEST_F(CsvTest, HeaderOfATestFileMayBeginWithTheLabel) {
  folder_.Write("x/train.csv", "0,1,2,label\n5,6,7,0\n8,9,1,1\n");
  folder_.Write("x/test.csv", "label,0,1,2\n1,5,6,7\n");
  EXPECT_THAT(Row(*Load(), 2), ElementsAre(5, 6, 7));
}

TEST_F(CsvTest, NoneMayBeAClass) {
  folder_.Write("x/d.csv", "1,2,none\n3,4,mild\n");
  spec_.set_missing(v1::DataSpec::MISSING_DROP);
  EXPECT_THAT(Labels(*Load()), ElementsAre(1, 0));
}

TEST_F(CsvTest, DecimalCommasAreNamed) {
  folder_.Write("x/d.csv", "a;b;kind\n1,5;2;0\n");
  spec_.set_words(v1::DataSpec::WORDS_ONE_HOT);
  const auto root = DataRoot::Open(folder_.path());
  EXPECT_THAT(base::MessageOf(DescribeDataset(*root, spec_, {}).status()),
              AllOf(HasSubstr("line 2"), HasSubstr("decimal point"), HasSubstr("'1,5'")));
}

TEST_F(CsvTest, DroppingAllExamplesIsAnError) {
  folder_.Write("x/d.csv", "a,b,kind\n1,,0\n2,,1\n");
  spec_.set_missing(v1::DataSpec::MISSING_DROP);
  EXPECT_THAT(Error(), AllOf(HasSubstr("none in 2 lines"), HasSubstr("column that is empty")));
}

TEST_F(CsvTest, DroppedRowsAreStillChecked) {
  folder_.Write("x/d.csv", "a,b,kind\n1,2,0\n,Total: 1,0\n");
  spec_.set_missing(v1::DataSpec::MISSING_DROP);
  EXPECT_THAT(Error(), AllOf(HasSubstr("line 3"), HasSubstr("'Total: 1'")));
}

TEST_F(CsvTest, OtherEndingsAndFormatsAsTheJobSays) {
  folder_.Write("x/d.tsv", "1\t2\t0\n");
  EXPECT_EQ(Load()->size(), 1) << "one single .tsv";
  folder_.Write("x/d.csv", "1,2,0\n3,4,1\n");
  folder_.Write("x/README.txt", "about");
  spec_.set_format(v1::DataSpec::FORMAT_CSV);
  EXPECT_EQ(Load()->size(), 2);
  spec_.set_format(v1::DataSpec::FORMAT_IDX);
  EXPECT_THAT(Error(),
              AllOf(HasSubstr("train-images-idx3-ubyte"), HasSubstr("data.format is idx")));
}

TEST_F(CsvTest, OldLineEndsAreReadAndUtf16IsNamed) {
  folder_.Write("x/d.csv", "a,b,kind\r1,2,0\r3,4,1\r");
  EXPECT_EQ(Load()->size(), 2);
  folder_.Write("x/d.csv", std::string("\xFF\xFE\x31\0,\0\x30\0\n\0", 10));
  EXPECT_THAT(Error(), HasSubstr("UTF-16"));
}

TEST_F(CsvTest, WordsAreBoundedAndMustBeAgreedOn) {
  spec_.set_words(v1::DataSpec::WORDS_ONE_HOT);
  std::string many = "name,kind\n";
  for (int i = 0; i < 1002; ++i) many += "w" + std::to_string(i) + ",0\n";
  folder_.Write("x/d.csv", many);
  const auto root = DataRoot::Open(folder_.path());
  EXPECT_THAT(base::MessageOf(DescribeDataset(*root, spec_, {}).status()),
              AllOf(HasSubstr("at most 1000 different words"), HasSubstr("'name'")));
  folder_.Write("x/d.csv", "color,kind\nred,0\ngreen,1\n");
  v1::Agreement::Column& color = *spec_.mutable_agreement()->add_columns();
  color.set_name("color");
  color.add_words("red");
  EXPECT_THAT(Error(), AllOf(HasSubstr("line 3"), HasSubstr("'green'"), HasSubstr("agreed on")));
}

TEST_F(CsvTest, LabelsOfTwoKindsAreAnErrorWithTheLine) {
  folder_.Write("x/d.csv", "1,2,0\n3,4,1\n5,6,dog\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr("line 3"), HasSubstr("'dog'"), HasSubstr("line 1")));
  folder_.Write("x/d.csv", "1,2,0\n3,4,1\n5,6,NA\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr("line 3"), HasSubstr("'NA'"), HasSubstr("drop")));
  spec_.set_missing(v1::DataSpec::MISSING_DROP);
  EXPECT_EQ(Load()->size(), 2);
}

TEST_F(CsvTest, GapsAreRefusedDroppedOrFilledWithTheAgreedMean) {
  folder_.Write("x/d.csv", "age,size,kind\n1,2,0\n,4,1\n5,n/a,1\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr("line 3"), HasSubstr("'age'"), HasSubstr("data.missing")));
  spec_.set_missing(v1::DataSpec::MISSING_DROP);
  EXPECT_EQ(Load()->size(), 1);
  spec_.set_missing(v1::DataSpec::MISSING_MEAN);
  const v1::DatasetInfo info = Describe();
  EXPECT_EQ(info.columns(0).values(), 2);
  EXPECT_EQ(info.columns(0).sum(), 6);
  EXPECT_EQ(info.columns(0).missing(), 1);
  for (const auto& column : info.columns()) {
    v1::Agreement::Column& agreed = *spec_.mutable_agreement()->add_columns();
    agreed.set_name(column.name());
    agreed.set_mean(column.sum() / static_cast<double>(column.values()));
  }
  const auto dataset = Load();
  EXPECT_THAT(Row(*dataset, 1), ElementsAre(3, 4));
  EXPECT_THAT(Row(*dataset, 2), ElementsAre(5, 3));
}

TEST_F(CsvTest, WordsAreRefusedOrBecomeOneFeatureEach) {
  folder_.Write("x/d.csv", "size,color,kind\n1,red,0\n2,blue,1\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr("'color'"), HasSubstr("one_hot"), HasSubstr("'red'")));
  spec_.set_words(v1::DataSpec::WORDS_ONE_HOT);
  const v1::DatasetInfo info = Describe();
  EXPECT_EQ(info.features(), 3);
  EXPECT_THAT(info.columns(1).words(), ElementsAre("blue", "red"));
  v1::Agreement& agreement = *spec_.mutable_agreement();
  agreement.add_columns()->set_name("size");
  v1::Agreement::Column& color = *agreement.add_columns();
  color.set_name("color");
  for (const char* word : {"blue", "green", "red"}) color.add_words(word);
  const auto dataset = Load();
  EXPECT_THAT(Row(*dataset, 0), ElementsAre(1, 0, 0, 1));
  EXPECT_THAT(Row(*dataset, 1), ElementsAre(2, 1, 0, 0));
}

TEST_F(CsvTest, DescriptionSaysHowTheFileWasRead) {
  folder_.Write("x/d.csv", "a;b;kind\n1;2;cat\n3;4;dog\n");
  const v1::DatasetInfo info = Describe();
  EXPECT_EQ(info.delimiter(), "semicolon");
  EXPECT_TRUE(info.header());
  EXPECT_EQ(info.label_column(), "kind");
  EXPECT_EQ(info.features(), 2);
  EXPECT_EQ(info.classes(), 2);
  EXPECT_THAT(info.class_names(), ElementsAre("cat", "dog"));
  EXPECT_EQ(info.train_examples(), 2);
  EXPECT_EQ(info.digest().size(), 64u);
}

TEST_F(CsvTest, DescriptionsThatDoNotFitIntoAMessageAreRefused) {
  std::string header = "kind";
  std::string row = "0";
  const std::string name(200, 'n');
  for (int i = 0; i < 12'000; ++i) {
    header += "," + name + std::to_string(i);
    row += ",1";
  }
  spec_.set_label_column("kind");
  folder_.Write("x/d.csv", header + "\n" + row + "\n");
  const auto root = DataRoot::Open(folder_.path());
  EXPECT_THAT(base::MessageOf(DescribeDataset(*root, spec_, {}).status()),
              HasSubstr("at most 2097152 bytes"));
}

TEST_F(CsvTest, DigestsAreEqualForEqualContentsOnly) {
  folder_.Write("x/d.csv", "1,2,0\n");
  const std::string plain = Describe().digest();
  folder_.Write("x/d.csv", "1,2,1\n");
  EXPECT_NE(Describe().digest(), plain);
}

TEST_F(CsvTest, CommentsAndTotalsAreErrorsThatNameTheLine) {
  folder_.Write("x/d.csv", "1,2,0\n3,4,1\nTotal rows: 2\n");
  EXPECT_THAT(Error(), HasSubstr("line 3"));
  folder_.Write("x/d.csv", "# made by hand, in 2024\na,b,kind\n1,2,0\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr("line 1"), HasSubstr("a comment: '# made by hand'")));
  folder_.Write("x/d.csv", "# a,b,kind\n1,2,0\n");
  EXPECT_EQ(Describe().columns(0).name(), "# a");
}

TEST_F(CsvTest, WholeNumbersWithAFractionOfZeroAreLabels) {
  folder_.Write("x/d.csv", "1,2,0.0\n3,4,1.000000e+00\n5,6,1\n7,8,2e0\n");
  EXPECT_THAT(Labels(*Load()), ElementsAre(0, 1, 1, 2));
  folder_.Write("x/d.csv", "1,2,0.0\n3,4,1.5\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr("line 2"), HasSubstr("data.target to values")));
}

TEST_F(CsvTest, AFileWithNothingBelowItsHeaderIsNotEmpty) {
  folder_.Write("x/d.csv", "a,b,kind\n");
  EXPECT_THAT(Error(), HasSubstr("none below the names of the columns"));
}

TEST_F(CsvTest, OddNumbersComeWithTheirRemedy) {
  const std::pair<const char*, const char*> cases[] = {{"2024-01-31", "dates as numbers"},
                                                       {"31.1.2024 12:30", "dates as numbers"},
                                                       {"1.234.5", "marks of thousands"},
                                                       {"1 234", "marks of thousands"},
                                                       {"12%", "percent signs"},
                                                       {"\xE2\x88\x92"
                                                        "1.5",
                                                        "numbers like -1234.5"},
                                                       {"-inf", "3.4e38"},
                                                       {"+Infinity", "3.4e38"},
                                                       {"1e400", "3.4e38"},
                                                       {"high", "data.words"},
                                                       {"1-2", "numbers like -1234.5"},
                                                       {"-", "data.words"}};
  for (const auto& [cell, remedy] : cases) {
    folder_.Write("x/d.csv", std::string("1,2,0\n3,") + cell + ",1\n");
    EXPECT_THAT(Error(), AllOf(HasSubstr("line 2, column 2"), HasSubstr(remedy))) << cell;
  }
}

TEST_F(CsvTest, LabelsOfTwoKindsInTwoFilesAreNamedWithTheirFiles) {
  folder_.Write("x/train.csv", "1,2,0\n3,4,1\n");
  folder_.Write("x/test.csv", "1,2,ant\n");
  EXPECT_THAT(Error(), AllOf(HasSubstr("x/test.csv, line 1"), HasSubstr("line 1 of x/train.csv")));
}

}  // namespace
}  // namespace espalier::worker::data
