#include "worker/data/images/images.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <utility>

#include "common/base/status.h"
#include "common/io/sha256.h"
#include "worker/data/errors.h"
#include "worker/data/images/collector.h"
#include "worker/data/images/image.h"

namespace espalier::worker::data {
namespace {

// The images of one data set, read one after the other.
class Reader {
 public:
  Reader(const DataRoot& root, const std::string& dataset, const LoadOptions& options)
      : root_(root), dataset_(dataset), options_(options) {}

  // The file's bytes, valid until the next call. `held` bytes of memory are taken already.
  absl::StatusOr<const EncodedImage*> Read(const ImageFile& file, int64_t held) {
    ESPALIER_RETURN_IF_ERROR(options_.CheckGoesOn());
    encoded_.name = dataset_ + "/" + file.path;
    ESPALIER_ASSIGN_OR_RETURN(const UniqueFd fd, root_.OpenPath(dataset_, file.path));
    struct stat info {};
    const int64_t bytes = fstat(fd.get(), &info) == 0 ? int64_t{info.st_size} : 0;
    ESPALIER_RETURN_IF_ERROR(CheckBytes(bytes, held));
    encoded_.bytes.resize(static_cast<size_t>(bytes));
    ESPALIER_RETURN_IF_ERROR(Fill(fd.get()));
    return &encoded_;
  }

 private:
  absl::Status CheckBytes(int64_t bytes, int64_t held) const {
    if (options_.bytes_left != nullptr) *options_.bytes_left -= bytes;
    if (bytes > options_.max_file_bytes ||
        (options_.bytes_left != nullptr && *options_.bytes_left < 0)) {
      return DatasetTooLarge(encoded_.name,
                             {"", fmt::format("at most {} bytes", options_.max_file_bytes),
                              fmt::format("{}", bytes), "make the image smaller, or remove it"});
    }
    return options_.CheckMemory(encoded_.name, held + bytes);
  }

  // A file that shrinks meanwhile is cut, and the decoder tells.
  absl::Status Fill(int fd) {
    size_t done = 0;
    while (done < encoded_.bytes.size()) {
      const ssize_t got = read(fd, encoded_.bytes.data() + done, encoded_.bytes.size() - done);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) {
        return DatasetInvalid(encoded_.name, {"", "a file that can be read", std::strerror(errno),
                                              "check the disk, or copy the file again"});
      }
      if (got == 0) break;
      done += static_cast<size_t>(got);
    }
    encoded_.bytes.resize(done);
    return absl::OkStatus();
  }

  const DataRoot& root_;
  const std::string& dataset_;
  const LoadOptions& options_;
  EncodedImage encoded_;
};

// What each label is called in a message: the class's folder.
std::string ClassName(const ImageFolder& folder, int32_t label) {
  return folder.classes.empty() ? std::to_string(label)
                                : folder.classes[static_cast<size_t>(label)];
}

// The labels of the folders as those of all sites.
absl::StatusOr<std::vector<int32_t>> AgreedLabels(const ImageFolder& folder,
                                                  const v1::DataSpec& spec) {
  const auto& agreed = spec.agreement().classes();
  std::vector<int32_t> labels(static_cast<size_t>(folder.num_classes));
  std::vector<bool> occurs(labels.size());
  for (const std::vector<ImageFile>* part : {&folder.train, &folder.test}) {
    for (const ImageFile& file : *part) {
      const auto label = static_cast<size_t>(file.label);
      if (occurs[label]) continue;
      occurs[label] = true;
      const std::string name = ClassName(folder, file.label);
      const auto place = std::find(agreed.begin(), agreed.end(), name);
      if (place == agreed.end()) {
        return DatasetInvalid(
            fmt::format("{}/{}", spec.dataset(), file.path.substr(0, file.path.rfind('/'))),
            {"", "a class that the sites agreed on when the job began", Quote(name),
             "rename the folder to one of the job's classes, or submit the job again"});
      }
      labels[label] = static_cast<int32_t>(place - agreed.begin());
    }
  }
  return labels;
}

// The dimensions that all images of `files` have, as far as they are read; none where they differ.
absl::StatusOr<ImageDims> CommonDims(Reader& reader, const std::vector<ImageFile>& files,
                                     const LoadOptions& options) {
  ImageDims common;
  const size_t count = std::min(files.size(), static_cast<size_t>(kMostHeadsRead));
  for (size_t i = 0; i < count; ++i) {
    ESPALIER_ASSIGN_OR_RETURN(const EncodedImage* file, reader.Read(files[i], 0));
    ESPALIER_ASSIGN_OR_RETURN(const ImageDims dims, ReadImageDims(*file, options));
    if (i > 0 && dims != common) return ImageDims{};
    common = dims;
  }
  return common;
}

}  // namespace

absl::StatusOr<Dataset> LoadImages(const DataRoot& root, const v1::DataSpec& spec,
                                   const LoadOptions& options) {
  if (spec.partition().kind() == v1::Partition::KIND_GROUPS) {
    return base::InvalidArgument(
        kDataSpecInvalid,
        "data.partition.kind: groups follow the lines of a file, and images in folders have none; "
        "use iid, dirichlet or classes, or a folder of its own on each worker with local");
  }
  ESPALIER_ASSIGN_OR_RETURN(ImageFolder folder, ListImages(root, spec.dataset(), options));
  std::vector<int32_t> agreed;
  if (spec.agreement().classes_size() > 0) {
    ESPALIER_ASSIGN_OR_RETURN(agreed, AgreedLabels(folder, spec));
  }
  Reader reader(root, spec.dataset(), options);
  ImageCollector collector(spec, options, ListingBytes(folder));
  const auto add_all = [&](const std::vector<ImageFile>& files) -> absl::Status {
    for (const ImageFile& file : files) {
      ESPALIER_ASSIGN_OR_RETURN(const EncodedImage* image, reader.Read(file, collector.held()));
      ESPALIER_RETURN_IF_ERROR(collector.Add(*image, file.label));
    }
    return absl::OkStatus();
  };
  ESPALIER_RETURN_IF_ERROR(add_all(folder.train));
  collector.builder().EndTraining();
  ESPALIER_RETURN_IF_ERROR(add_all(folder.test));
  int32_t classes = folder.num_classes;
  if (!agreed.empty()) {
    const auto& names = spec.agreement().classes();
    classes = names.size();
    collector.builder().MapLabels(agreed, {names.begin(), names.end()});
  } else if (!folder.classes.empty()) {
    std::vector<int32_t> same(folder.classes.size());
    for (size_t i = 0; i < same.size(); ++i) same[i] = static_cast<int32_t>(i);
    collector.builder().MapLabels(same, std::move(folder.classes));
  }
  return collector.builder().Finish(spec.dataset(), "images", classes);
}

absl::StatusOr<v1::DatasetInfo> DescribeImages(const DataRoot& root, const std::string& dataset,
                                               size_t most_names, const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const ImageFolder folder, ListImages(root, dataset, options));
  Reader reader(root, dataset, options);
  ESPALIER_ASSIGN_OR_RETURN(const ImageDims train, CommonDims(reader, folder.train, options));
  ImageDims test = train;
  if (!folder.test.empty()) {
    ESPALIER_ASSIGN_OR_RETURN(test, CommonDims(reader, folder.test, options));
  }
  v1::DatasetInfo info;
  info.set_name(dataset);
  info.set_format("images");
  info.set_train_examples(static_cast<int64_t>(folder.train.size()));
  info.set_test_examples(static_cast<int64_t>(folder.test.size()));
  info.set_classes(folder.num_classes);
  for (size_t i = 0; i < std::min(folder.classes.size(), most_names); ++i) {
    info.add_class_names(folder.classes[i]);
  }
  if (train != test) return info;
  info.set_features(train.values());
  info.set_image_channels(train.channels);
  info.set_image_height(train.height);
  info.set_image_width(train.width);
  return info;
}

absl::StatusOr<std::string> DigestOfImages(const DataRoot& root, const std::string& dataset,
                                           const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const ImageFolder folder, ListImages(root, dataset, options));
  Reader reader(root, dataset, options);
  io::Sha256 digest;
  for (const std::vector<ImageFile>* part : {&folder.train, &folder.test}) {
    for (const ImageFile& file : *part) {
      ESPALIER_ASSIGN_OR_RETURN(const EncodedImage* image, reader.Read(file, 0));
      digest.Update(fmt::format("{}\n{}\n", file.path, image->bytes.size()));
      digest.Update(image->bytes.data(), image->bytes.size());
    }
  }
  return digest.HexDigest();
}

}  // namespace espalier::worker::data
