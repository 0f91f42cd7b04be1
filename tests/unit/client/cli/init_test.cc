#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "client/cli/init/draft.h"
#include "client/cli/init/sections.h"
#include "client/cli/init/shell.h"
#include "client/cli/init/source.h"
#include "client/lib/job_text.h"
#include "common/base/status.h"

namespace espalier::cli::init {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::HasSubstr;

const Source kSource{"data/mine", "data", "mine", false};

v1::DatasetInfo Table(int64_t examples, int features, int64_t classes) {
  v1::DatasetInfo info;
  info.set_name("mine");
  info.set_format("csv");
  info.set_train_examples(examples);
  info.set_features(features);
  info.set_classes(classes);
  info.set_delimiter("comma");
  info.set_header(true);
  info.set_label_column("kind");
  for (int i = 0; i < features; ++i) info.add_columns()->set_name("x" + std::to_string(i));
  for (int64_t i = 0; i < classes; ++i) info.add_class_names("class " + std::to_string(i));
  return info;
}

// Says `info` of every view.
Looker Always(const v1::DatasetInfo& info, double last_fifth = 0) {
  return [info, last_fifth](const v1::DataSpec*) -> absl::StatusOr<Look> {
    return Look{info, last_fifth};
  };
}

// The draft, whose file the command line accepts.
Draft Accepted(const absl::StatusOr<Draft>& draft) {
  EXPECT_TRUE(draft.ok()) << draft.status();
  if (!draft.ok()) return {};
  const auto job = client::ReadJob(draft->file, "job.yaml", {});
  EXPECT_TRUE(job.ok()) << job.status() << "\n" << draft->file;
  return *draft;
}

v1::JobSpec Job(const Draft& draft) { return *client::ReadJob(draft.file, "job.yaml", {}); }

// Operations of all rounds of a job of this size are bounded.
int64_t ExamplesSeen(const v1::JobSpec& job, int64_t train) {
  const int64_t steps = job.training().local_steps();
  const int64_t round = steps > 0
                            ? steps * job.training().batch_size() * job.data().partition().shards()
                            : job.training().local_epochs() * train;
  return round * job.federation().rounds();
}

TEST(ShellWordTest, IsReadBackAsItWas) {
  EXPECT_EQ(ShellWord("data/wine.csv"), "data/wine.csv");
  EXPECT_EQ(ShellWord("my data"), "'my data'");
  EXPECT_EQ(ShellWord("it's"), "'it'\\''s'");
  EXPECT_EQ(ShellWord(""), "''");
}

TEST(InitTableTest, FilesOfAllSizesAreAccepted) {
  for (const int64_t examples : {12, 150, 6000, 1'000'000, 200'000'000}) {
    for (const int features : {1, 64, 5000}) {
      for (const int64_t classes : {2, 5}) {
        const Draft draft =
            Accepted(MakeDraft(kSource, {}, Always(Table(examples, features, classes))));
        const v1::JobSpec job = Job(draft);
        EXPECT_EQ(job.data().normalization(), v1::DataSpec::NORMALIZATION_FEDERATED);
        EXPECT_EQ(job.data().test_fraction(), 0.2);
        EXPECT_LE(ExamplesSeen(job, examples * 4 / 5), 40'000'000);
        EXPECT_EQ(job.federation().rounds(), draft.rounds);
      }
    }
  }
}

TEST(InitTableTest, NamesCannotLeaveTheirComments) {
  v1::DatasetInfo info = Table(100, 2, 2);
  info.set_label_column("kind\"\nmethod: {name: echo}\n#");
  info.mutable_columns(0)->set_name("a\nseed: 7");
  info.mutable_columns(0)->set_missing(3);
  info.mutable_columns(0)->add_words("x\ny");
  info.set_class_names(0, "one\nseed: 7\n#");
  int looks = 0;
  const Looker look = [&](const v1::DataSpec* view) -> absl::StatusOr<Look> {
    ++looks;
    Look seen{info, 0};
    if (view != nullptr && view->missing() == v1::DataSpec::MISSING_UNSPECIFIED) {
      seen.info.set_problem("an empty cell; set data.missing to mean");
    } else if (view != nullptr && view->words() == v1::DataSpec::WORDS_UNSPECIFIED) {
      seen.info.set_problem("a word; set data.words to one_hot");
    }
    return seen;
  };
  const v1::JobSpec job = Job(Accepted(MakeDraft(kSource, {}, look)));
  EXPECT_EQ(job.data().label_column(), info.label_column());
  EXPECT_EQ(job.data().missing(), v1::DataSpec::MISSING_MEAN);
  EXPECT_EQ(job.data().words(), v1::DataSpec::WORDS_ONE_HOT);
  EXPECT_EQ(job.method().name(), "set");
  EXPECT_EQ(job.seed(), 1);
  EXPECT_LE(looks, 6);
}

TEST(InitTableTest, AColumnCalledLabelGoesBeforeTheLast) {
  const Looker look = [](const v1::DataSpec* view) -> absl::StatusOr<Look> {
    v1::DatasetInfo info = Table(100, 2, 2);
    if (view != nullptr && view->label_column() == "Class") {
      info.set_label_column("Class");
    } else {
      info.mutable_columns(0)->set_name("Class");
    }
    return Look{info, 0};
  };
  EXPECT_EQ(Job(Accepted(MakeDraft(kSource, {}, look))).data().label_column(), "Class");
  // What the person says goes before all.
  Wishes wishes;
  wishes.label = "kind";
  EXPECT_EQ(Job(Accepted(MakeDraft(kSource, wishes, look))).data().label_column(), "kind");
}

TEST(InitTableTest, NumbersToBePredictedAreNoClasses) {
  const auto draft = MakeDraft(kSource, {}, Always(Table(400, 3, 390)));
  EXPECT_EQ(base::ReasonOf(draft.status()), "DATA_UNUSABLE");
  EXPECT_THAT(base::MessageOf(draft.status()),
              AllOf(HasSubstr("390 different values in 400 examples"), HasSubstr("--label")));
}

TEST(InitTableTest, AProblemThatNoOptionSolvesIsTold) {
  v1::DatasetInfo info;
  info.set_problem("line 2: found '5,1'; set data.header to absent");
  const auto draft = MakeDraft(kSource, {}, Always(info));
  EXPECT_THAT(base::MessageOf(draft.status()), HasSubstr("found '5,1'; set --header to absent"));
}

TEST(InitTableTest, SortedExamplesAreMixedFirst) {
  const std::string folder = testing::TempDir() + "init-sorted";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/my file.csv") << "x,kind\n";
  const Source source{folder, testing::TempDir(), "init-sorted", false};
  const Draft sorted = Accepted(MakeDraft(source, {}, Always(Table(100, 2, 2), 0.5)));
  ASSERT_EQ(sorted.before.size(), 1u);
  EXPECT_THAT(sorted.before[0].command, AllOf(HasSubstr("shuf"), HasSubstr("my file.csv'")));
  EXPECT_TRUE(Accepted(MakeDraft(source, {}, Always(Table(100, 2, 2), 0.1))).before.empty());
}

TEST(InitTest, EveryKindAndMethodIsAccepted) {
  v1::DatasetInfo images = Table(500, 3 * 32 * 32, 3);
  images.set_format("images");
  images.set_image_channels(3);
  images.set_image_height(32);
  images.set_image_width(32);
  v1::DatasetInfo arrays = images;
  arrays.set_format("cifar10");
  arrays.set_test_examples(100);
  v1::DatasetInfo numbers = Table(500, 20, 3);
  numbers.set_format("npy");
  v1::DatasetInfo text;
  text.set_format("text");
  text.set_train_bytes(1'000'000);
  text.set_train_examples(15'000);
  v1::DatasetInfo likes;
  likes.set_format("movielens");
  likes.set_users(943);
  likes.set_items(1682);
  likes.set_interactions(100'000);
  for (const v1::DatasetInfo& info : {Table(500, 4, 3), images, arrays, numbers, text, likes}) {
    for (const std::string method : {"", "set", "rigl", "static", "dense"}) {
      Wishes wishes;
      wishes.method = method;
      wishes.workers = 3;
      const v1::JobSpec job = Job(Accepted(MakeDraft(kSource, wishes, Always(info))));
      EXPECT_TRUE(method.empty() || job.method().name() == method) << job.method().name();
      EXPECT_EQ(job.data().test_fraction() > 0,
                info.test_examples() == 0 && info.interactions() == 0);
    }
    Wishes wishes;
    wishes.method = "wanda";
    EXPECT_EQ(base::ReasonOf(MakeDraft(kSource, wishes, Always(info)).status()), "USAGE");
  }
}

TEST(InitTest, ImagesOfDifferentSizesGetOne) {
  v1::DatasetInfo info = Table(500, 0, 3);
  info.set_format("images");
  const Looker look = [&](const v1::DataSpec* view) -> absl::StatusOr<Look> {
    Look seen{info, 0};
    if (view != nullptr && view->has_image_size()) {
      seen.info.set_image_channels(view->image_size().channels());
      seen.info.set_image_height(view->image_size().height());
      seen.info.set_image_width(view->image_size().width());
    }
    return seen;
  };
  const Draft draft = Accepted(MakeDraft(kSource, {}, look));
  const v1::JobSpec job = Job(draft);
  EXPECT_EQ(job.data().image_size().height(), job.model().input_image().height());
  EXPECT_EQ(job.data().image_size().channels(), 3);
  EXPECT_THAT(draft.findings, Contains(HasSubstr("differ in size")));
}

class SourceTest : public testing::Test {
 protected:
  SourceTest() {
    std::string pattern = testing::TempDir() + "init-XXXXXX";
    root_ = mkdtemp(pattern.data());
  }
  ~SourceTest() override { std::filesystem::remove_all(root_); }

  std::string Write(const std::string& name) const {
    const std::filesystem::path path = root_ + "/" + name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path) << "1,2\n";
    return path;
  }
  static std::string Message(const std::string& path) {
    return std::string(base::MessageOf(FindSource(path).status()));
  }

  std::string root_;
};

TEST_F(SourceTest, AFolderIsADataSetOfItsName) {
  const std::string file = Write("wine/wine.csv");
  for (const std::string& path : {file, root_ + "/wine", root_ + "/wine/", root_ + "/./wine"}) {
    const auto source = FindSource(path);
    ASSERT_TRUE(source.ok()) << source.status();
    EXPECT_EQ(source->name, "wine");
    EXPECT_EQ(source->root, root_);
  }
}

TEST_F(SourceTest, PartsBelongToTheFolderAroundThem) {
  Write("pets/test/cat/1.png");
  Write("pets/train/cat/1.png");
  EXPECT_EQ(FindSource(root_ + "/pets/train")->name, "pets");
  Write("table/test.csv");
  EXPECT_EQ(FindSource(Write("table/train.csv"))->name, "table");
}

TEST_F(SourceTest, ALooseFileGetsTheCommandThatMakesAFolder) {
  Write("downloads/cv.pdf");
  const std::string file = Write("downloads/My Wine.csv");
  EXPECT_THAT(Message(file), HasSubstr("mkdir -p data/my-wine && cp '" + file +
                                       "' data/my-wine/ && espalier init data/my-wine"));
}

TEST_F(SourceTest, WhatIsNoDataIsToldWithARemedy) {
  EXPECT_THAT(Message(root_ + "/nothing"), HasSubstr("nothing there"));
  EXPECT_THAT(Message(Write("sheet/a.xlsx")), HasSubstr("as CSV"));
  EXPECT_THAT(Message(Write("pets/cat/1.png")), HasSubstr("a folder of images for each class"));
  Write("Upper Case/a.csv");
  EXPECT_THAT(Message(root_ + "/Upper Case"),
              AllOf(HasSubstr("mv '" + root_ + "/Upper Case' "), HasSubstr("/upper-case")));
  std::filesystem::create_directories(root_ + "/empty");
  EXPECT_THAT(Message(root_ + "/empty"), HasSubstr("found it empty"));
}

TEST_F(SourceTest, AModelNeedsAText) {
  Write("Llama/config.json");
  Write("Llama/model.safetensors");
  const auto source = FindSource(root_ + "/Llama");
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_TRUE(source->is_model);
  const auto draft = MakeDraft(*source, {}, Always({}));
  EXPECT_THAT(base::MessageOf(draft.status()), HasSubstr("expected --text PATH"));
}

}  // namespace
}  // namespace espalier::cli::init
