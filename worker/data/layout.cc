#include "worker/data/layout.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

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

  absl::StatusOr<Layout> SingleCsv() const {
    std::vector<std::string> names;
    for (const FileEntry& file : files_) {
      if (file.name.ends_with(".csv") || file.name.ends_with(".csv.gz")) names.push_back(file.name);
    }
    if (names.size() == 1) return Layout{Format::kCsv, names, {}};
    return DatasetInvalid(
        dataset_, {"",
                   "IDX, CIFAR-10 binary, .npy or CSV files under their usual names, or images in "
                   "folders by class",
                   names.empty() ? "none of them"
                                 : fmt::format("several CSV files ({})", fmt::join(names, ", ")),
                   "name them train-images-idx3-ubyte, data_batch_1.bin, train_features.npy or "
                   "train.csv, or leave a single .csv file; put images into train/CLASS/ (see "
                   "docs/data-sets.md)"});
  }

 private:
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
                                    bool holds_images) {
  const Folder folder(dataset, files);
  if (folder.HasAnyOf(kIdxTrain)) return folder.Make(Format::kIdx, kIdxTrain, kIdxTest);
  if (folder.HasAnyOf(kCifarTrain)) return folder.Make(Format::kCifar10, kCifarTrain, kCifarTest);
  if (folder.HasAnyOf(kCifarMiniTrain)) {
    return folder.Make(Format::kCifar10, kCifarMiniTrain, kCifarMiniTest);
  }
  if (folder.HasAnyOf(kNpyTrain)) return folder.Make(Format::kNpy, kNpyTrain, kNpyTest);
  if (folder.HasAnyOf(kCsvTrain)) return folder.Make(Format::kCsv, kCsvTrain, kCsvTest);
  if (holds_images) return Layout{Format::kImages, {}, {}};
  return folder.SingleCsv();
}

absl::StatusOr<Layout> TableLayout(const std::string& dataset,
                                   const std::vector<FileEntry>& files) {
  const Folder folder(dataset, files);
  std::vector<std::string> tables;
  for (const char* ending : {".csv", ".tsv", ".txt"}) {
    const Part train{{std::string("train") + ending}};
    if (folder.HasAnyOf(train)) {
      return folder.Make(Format::kCsv, train, Part{{std::string("test") + ending}});
    }
    for (const FileEntry& file : files) {
      const bool is_table =
          file.name.ends_with(ending) || file.name.ends_with(std::string(ending) + ".gz");
      if (is_table) tables.push_back(file.name);
    }
  }
  if (tables.size() == 1) return Layout{Format::kCsv, tables, {}};
  return DatasetInvalid(
      dataset, {"", "train.csv, train.tsv or train.txt, or one single file of these kinds",
                tables.empty() ? "none" : fmt::format("several ({})", fmt::join(tables, ", ")),
                "name the one to train on train.csv (see docs/data-sets.md)"});
}

}  // namespace espalier::worker::data
