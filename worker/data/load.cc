#include "worker/data/load.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <functional>

#include "common/base/check.h"
#include "common/base/status.h"
#include "worker/data/byte_stream.h"
#include "worker/data/errors.h"
#include "worker/data/images/images.h"
#include "worker/data/layout.h"
#include "worker/data/readers.h"
#include "worker/data/source.h"
#include "worker/data/table/csv.h"
#include "worker/data/text.h"

namespace espalier::worker::data {
namespace {

using PairReader = std::function<absl::Status(ByteStream&, ByteStream&, DatasetBuilder&)>;

absl::Status ReadPair(const Source& source, const std::vector<std::string>& files,
                      const PairReader& reader, DatasetBuilder& builder) {
  ESPALIER_ASSIGN_OR_RETURN(ByteStream values, source.Open(files[0]));
  ESPALIER_ASSIGN_OR_RETURN(ByteStream labels, source.Open(files[1]));
  return reader(values, labels, builder);
}

absl::Status ReadBatches(const Source& source, const std::vector<std::string>& files,
                         DatasetBuilder& builder) {
  for (const std::string& file : files) {
    ESPALIER_ASSIGN_OR_RETURN(ByteStream stream, source.Open(file));
    ESPALIER_RETURN_IF_ERROR(ReadCifar10(stream, builder));
  }
  return absl::OkStatus();
}

absl::Status ReadPart(const Source& source, Format format, v1::DataSpec::Target target,
                      const std::vector<std::string>& files, CsvReader& csv,
                      DatasetBuilder& builder) {
  if (files.empty()) return absl::OkStatus();
  switch (format) {
    case Format::kIdx:
      return ReadPair(source, files, ReadIdx, builder);
    case Format::kNpy:
      return ReadPair(
          source, files,
          [target](ByteStream& features, ByteStream& labels, DatasetBuilder& into) {
            return ReadNpy(features, labels, into, target);
          },
          builder);
    case Format::kCifar10:
      return ReadBatches(source, files, builder);
    case Format::kImages:
      break;  // LoadImages() reads both parts
    case Format::kCsv:
      ESPALIER_ASSIGN_OR_RETURN(ByteStream stream, source.Open(files[0]));
      return csv.ReadFile(stream);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<int64_t>> ReadGroups(const Source& source, const std::string& file,
                                                int64_t rows) {
  ESPALIER_ASSIGN_OR_RETURN(ByteStream stream, source.Open(file));
  absl::StatusOr<std::vector<int64_t>> groups =
      file.find("-idx") != std::string::npos   ? ReadIdxGroups(stream)
      : file.find(".npy") != std::string::npos ? ReadNpyIntegers(stream)
                                               : ReadTextGroups(stream);
  if (groups.ok() && static_cast<int64_t>(groups->size()) != rows) {
    return DatasetInvalid(
        stream.name(), {"", fmt::format("{} group ids, one for each training example", rows),
                        fmt::format("{}", groups->size()), "use the groups file of this data set"});
  }
  return groups;
}

bool ByGroups(const v1::DataSpec& spec) {
  return spec.partition().kind() == v1::Partition::KIND_GROUPS;
}

absl::StatusOr<Dataset> Load(const Source& source, const Layout& layout, const v1::DataSpec& spec) {
  DatasetBuilder builder(source.options);
  CsvReader csv(spec, CsvReader::Purpose::kLoad, builder);
  ESPALIER_RETURN_IF_ERROR(ReadAll(source, layout, spec.target(), csv, builder));
  if (ByGroups(spec)) {
    ESPALIER_ASSIGN_OR_RETURN(
        std::vector<int64_t> groups,
        ReadGroups(source, spec.partition().groups_file(), builder.train_rows()));
    builder.SetGroups(std::move(groups));
  }
  return builder.Finish(source.dataset, FormatName(layout.format),
                        layout.format == Format::kCifar10 ? kCifarClasses : 0);
}

// What changes with the images of a data set; "" for others.
absl::StatusOr<std::string> ImagesKey(const DataRoot& root, const v1::DataSpec& spec,
                                      const std::vector<FileEntry>& files,
                                      const LoadOptions& options) {
  const auto layout = FindLayout(root, spec, files, options);
  if (!layout.ok() || layout->format != Format::kImages) return "";
  return FingerprintOfImages(root, spec.dataset(), options);
}

}  // namespace

absl::StatusOr<ByteStream> Source::Open(const std::string& file) const {
  ESPALIER_ASSIGN_OR_RETURN(UniqueFd fd, root.OpenFile(dataset, file));
  return ByteStream::Open(std::move(fd), dataset + "/" + file, options);
}

absl::StatusOr<Layout> FindLayout(const DataRoot& root, const v1::DataSpec& spec,
                                  const std::vector<FileEntry>& files, const LoadOptions& options) {
  const bool may_be_images = spec.format() == v1::DataSpec::FORMAT_UNSPECIFIED;
  return DetectLayout(spec.dataset(), files, spec.format(),
                      may_be_images && HoldsImageFolders(root, spec.dataset(), options));
}

absl::Status ReadAll(const Source& source, const Layout& layout, v1::DataSpec::Target target,
                     CsvReader& csv, DatasetBuilder& builder) {
  ESPALIER_RETURN_IF_ERROR(ReadPart(source, layout.format, target, layout.train, csv, builder));
  builder.EndTraining();
  ESPALIER_RETURN_IF_ERROR(ReadPart(source, layout.format, target, layout.test, csv, builder));
  return layout.format == Format::kCsv ? csv.FinishLabels() : absl::OkStatus();
}

absl::Status AppendLabels(const std::vector<int64_t>& labels, int64_t rows, const std::string& file,
                          const std::string& features_file, DatasetBuilder& builder) {
  if (static_cast<int64_t>(labels.size()) != rows) {
    return DatasetInvalid(
        file, {"", fmt::format("{} labels, as many as {} has rows", rows, features_file),
               fmt::format("{}", labels.size()), "use images and labels of the same set"});
  }
  for (size_t row = 0; row < labels.size(); ++row) {
    if (labels[row] < 0 || labels[row] >= kMaxClasses) {
      return DatasetInvalid(
          file, {fmt::format("row {}", row), fmt::format("a label in 0..{}", kMaxClasses - 1),
                 std::to_string(labels[row]), "number the classes from 0"});
    }
    builder.AppendLabel(static_cast<int32_t>(labels[row]));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<const Dataset>> LoadDataset(const DataRoot& root,
                                                           const v1::DataSpec& spec,
                                                           const LoadOptions& options) {
  if (spec.has_text()) {
    ESPALIER_ASSIGN_OR_RETURN(Dataset text, LoadText(root, spec, options));
    return std::make_shared<const Dataset>(std::move(text));
  }
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<FileEntry> files, root.Files(spec.dataset()));
  ESPALIER_ASSIGN_OR_RETURN(const Layout layout, FindLayout(root, spec, files, options));
  if (layout.format == Format::kImages) {
    ESPALIER_ASSIGN_OR_RETURN(Dataset images, LoadImages(root, spec, options));
    return std::make_shared<const Dataset>(std::move(images));
  }
  if (spec.has_image_size()) {
    return base::InvalidArgument(
        kDataSpecInvalid,
        fmt::format("data.image_size: applies to images in folders, and {} is {}; "
                    "remove it",
                    spec.dataset(), FormatName(layout.format)));
  }
  const Source source{root, spec.dataset(), options};
  ESPALIER_ASSIGN_OR_RETURN(Dataset dataset, Load(source, layout, spec));
  return std::make_shared<const Dataset>(std::move(dataset));
}

absl::StatusOr<std::shared_ptr<const Dataset>> LoadDataset(const std::string& root,
                                                           const v1::DataSpec& spec,
                                                           const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const DataRoot opened, DataRoot::Open(root));
  return LoadDataset(opened, spec, options);
}

DatasetCache::DatasetCache(std::string root, size_t capacity, LoadOptions options)
    : root_(std::move(root)), capacity_(capacity), options_(options) {
  ESPALIER_CHECK(capacity >= 1, "a cache keeps at least one data set");
}

absl::StatusOr<std::shared_ptr<const Dataset>> DatasetCache::Get(const v1::DataSpec& spec) {
  const base::MutexLock lock(mutex_);
  ESPALIER_ASSIGN_OR_RETURN(const DataRoot root, DataRoot::Open(root_));
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<FileEntry> files, root.Files(spec.dataset()));
  std::string key =
      fmt::format("{}\n{}\n{}\n{} {} {} {}\n{}\n{}\n", spec.dataset(), spec.label_column(),
                  ByGroups(spec) ? spec.partition().groups_file() : "", spec.text().tokenizer(),
                  spec.text().context(), spec.text().stride(), spec.text().field(),
                  static_cast<int>(spec.format()), spec.image_size().SerializeAsString());
  key += fmt::format("{} {} {} {}\n", static_cast<int>(spec.delimiter()),
                     static_cast<int>(spec.header()), static_cast<int>(spec.missing()),
                     static_cast<int>(spec.words()));
  key += fmt::format("{} {}\n", static_cast<int>(spec.target()),
                     fmt::join(spec.target_columns(), "\n"));
  key += spec.agreement().SerializeAsString();
  ESPALIER_ASSIGN_OR_RETURN(const std::string images, ImagesKey(root, spec, files, options_));
  key += images;
  for (const FileEntry& file : files) {
    key += fmt::format("{} {} {}\n", file.name, file.bytes, file.modified_ns);
  }
  const auto known = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.key == key; });
  if (known != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, known);
    return entries_.front().dataset;
  }
  // Before the load, so that at most `capacity` data sets are in memory at any time.
  while (entries_.size() >= capacity_) entries_.pop_back();
  ESPALIER_ASSIGN_OR_RETURN(std::shared_ptr<const Dataset> dataset,
                            LoadDataset(root, spec, options_));
  entries_.push_front({std::move(key), dataset});
  return dataset;
}

void DatasetCache::Clear() {
  const base::MutexLock lock(mutex_);
  entries_.clear();
}

}  // namespace espalier::worker::data
