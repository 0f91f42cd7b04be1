#include "worker/data/layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "absl/strings/ascii.h"
#include "common/base/status.h"
#include "worker/data/errors.h"

namespace espalier::worker::data {
namespace {

// The files a format's training or test part consists of, without ".gz".
struct Part {
  std::vector<std::string> names;
};

const Part kIdxTrain{{"train-images-idx3-ubyte", "train-labels-idx1-ubyte"}};
const Part kIdxTest{{"t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"}};
const Part kCifarTrain{{"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin",
                        "data_batch_4.bin", "data_batch_5.bin"}};
const Part kCifarTest{{"test_batch.bin"}};
const Part kCifarMiniTrain{{"cifar10-mini-train.bin"}};
const Part kCifarMiniTest{{"cifar10-mini-test.bin"}};
const Part kNpyTrain{{"train_features.npy", "train_labels.npy"}};
const Part kNpyTest{{"test_features.npy", "test_labels.npy"}};
const Part kCsvTrain{{"train.csv"}};
const Part kCsvTest{{"test.csv"}};

class Folder {
 public:
  Folder(const std::string& dataset, const std::vector<FileEntry>& files)
      : dataset_(dataset), files_(files) {}

  // The name as it is on disk, plain before compressed.
  std::optional<std::string> Find(const std::string& name) const {
    for (const std::string& candidate : {name, name + ".gz"}) {
      const auto same = [&](const FileEntry& file) { return file.name == candidate; };
      if (std::any_of(files_.begin(), files_.end(), same)) return candidate;
    }
    return std::nullopt;
  }

  bool HasAnyOf(const Part& part) const {
    return std::any_of(part.names.begin(), part.names.end(),
                       [&](const std::string& name) { return Find(name).has_value(); });
  }

  absl::StatusOr<std::vector<std::string>> Resolve(const Part& part) const {
    std::vector<std::string> found;
    for (const std::string& name : part.names) {
      const auto file = Find(name);
      if (!file.has_value()) {
        return DatasetInvalid(
            dataset_ + "/" + name,
            {"", fmt::format("this file or {}.gz beside the others of its kind", name),
             "no such file", "add it, or remove the others"});
      }
      found.push_back(*file);
    }
    return found;
  }

  absl::StatusOr<Layout> Make(Format format, const Part& train, const Part& test) const {
    Layout layout;
    layout.format = format;
    ESPALIER_ASSIGN_OR_RETURN(layout.train, Resolve(train));
    if (HasAnyOf(test)) {
      ESPALIER_ASSIGN_OR_RETURN(layout.test, Resolve(test));
    }
    return layout;
  }

  // train.csv and perhaps test.csv, or one single .csv; else the same of .tsv, and of .txt where
  // the job says that it is a table.
  absl::StatusOr<Layout> Tables(bool also_text) const {
    std::vector<std::string> several;
    for (const std::string ending : {".csv", ".tsv", ".txt"}) {
      if (ending == ".txt" && !also_text) continue;
      const Part train{{"train" + ending}};
      if (HasAnyOf(train)) return Make(Format::kCsv, train, Part{{"test" + ending}});
      std::vector<std::string> names;
      for (const FileEntry& file : files_) {
        const std::string name = absl::AsciiStrToLower(file.name);
        if (name.ends_with(ending) || name.ends_with(ending + ".gz")) {
          names.push_back(file.name);
        }
      }
      if (names.size() == 1) return Layout{Format::kCsv, names, {}};
      if (several.empty()) several = names;
    }
    return DatasetInvalid(
        dataset_,
        {"",
         also_text
             ? "train.csv, train.tsv or train.txt, or one single file of these kinds"
             : "IDX, CIFAR-10 binary, .npy or CSV files under their usual names, or images in "
               "folders by class",
         several.empty() ? "none of them" + OthersThere()
                         : fmt::format("several CSV files ({})", fmt::join(several, ", ")),
         "name them train-images-idx3-ubyte, data_batch_1.bin, train_features.npy or train.csv, or "
         "leave a single .csv file; put images into train/CLASS/ (see docs/data-sets.md)"});
  }

  // The files of one format, that the job asks for; of `train` and `test` the first that is there.
  absl::StatusOr<Layout> Only(Format format, const std::vector<Part>& train,
                              const std::vector<Part>& test) const {
    for (size_t i = 0; i < train.size(); ++i) {
      if (HasAnyOf(train[i])) return Make(format, train[i], test[i]);
    }
    return DatasetInvalid(dataset_,
                          {"",
                           fmt::format("{}, as data.format is {}", fmt::join(train[0].names, ", "),
                                       FormatName(format)),
                           "none of them", "add the files, or leave data.format out"});
  }

 private:
  // " among a.doc, b.doc", for messages; "" in an empty folder.
  std::string OthersThere() const {
    constexpr size_t kShown = 3;
    std::vector<std::string> names;
    for (const FileEntry& file : files_) {
      if (names.size() < kShown) names.push_back(Quote(file.name));
    }
    if (names.empty()) return "";
    const size_t more = files_.size() - names.size();
    return fmt::format(" among {}{}", fmt::join(names, ", "),
                       more > 0 ? fmt::format(" and {} more files", more) : "");
  }

  const std::string& dataset_;
  const std::vector<FileEntry>& files_;
};

}  // namespace

const char* FormatName(Format format) {
  switch (format) {
    case Format::kIdx:
      return "idx";
    case Format::kCifar10:
      return "cifar10";
    case Format::kNpy:
      return "npy";
    case Format::kCsv:
      return "csv";
    case Format::kImages:
      return "images";
  }
  return "";
}

absl::StatusOr<Layout> DetectLayout(const std::string& dataset, const std::vector<FileEntry>& files,
                                    v1::DataSpec::Format format, bool holds_images) {
  const Folder folder(dataset, files);
  switch (format) {
    case v1::DataSpec::FORMAT_IDX:
      return folder.Only(Format::kIdx, {kIdxTrain}, {kIdxTest});
    case v1::DataSpec::FORMAT_CIFAR10:
      return folder.Only(Format::kCifar10, {kCifarTrain, kCifarMiniTrain},
                         {kCifarTest, kCifarMiniTest});
    case v1::DataSpec::FORMAT_NPY:
      return folder.Only(Format::kNpy, {kNpyTrain}, {kNpyTest});
    case v1::DataSpec::FORMAT_CSV:
      return folder.Tables(/*also_text=*/true);
    case v1::DataSpec::FORMAT_IMAGES:
      return Layout{Format::kImages, {}, {}};
    default:
      break;
  }
  if (folder.HasAnyOf(kIdxTrain)) return folder.Make(Format::kIdx, kIdxTrain, kIdxTest);
  if (folder.HasAnyOf(kCifarTrain)) return folder.Make(Format::kCifar10, kCifarTrain, kCifarTest);
  if (folder.HasAnyOf(kCifarMiniTrain)) {
    return folder.Make(Format::kCifar10, kCifarMiniTrain, kCifarMiniTest);
  }
  if (folder.HasAnyOf(kNpyTrain)) return folder.Make(Format::kNpy, kNpyTrain, kNpyTest);
  if (folder.HasAnyOf(kCsvTrain)) return folder.Make(Format::kCsv, kCsvTrain, kCsvTest);
  if (holds_images) return Layout{Format::kImages, {}, {}};
  return folder.Tables(/*also_text=*/false);
}

}  // namespace espalier::worker::data
