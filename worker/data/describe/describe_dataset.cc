// What data sets are, in the view of a job or by their looks: the descriptions of load.h.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <utility>

#include "common/base/status.h"
#include "common/io/sha256.h"
#include "common/log/log.h"
#include "worker/data/errors.h"
#include "worker/data/images/images.h"
#include "worker/data/interactions/interactions.h"
#include "worker/data/load.h"
#include "worker/data/readers.h"
#include "worker/data/source.h"
#include "worker/data/text.h"

namespace espalier::worker::data {
namespace {

// Bytes of a file after decompression, which also go into `digest` unless it is null; "" has none.
absl::StatusOr<int64_t> CountBytes(const Source& source, const std::string& name,
                                   io::Sha256* digest) {
  if (name.empty()) return 0;
  ESPALIER_ASSIGN_OR_RETURN(ByteStream stream, source.Open(name));
  std::vector<char> block(256 * 1024);
  int64_t bytes = 0;
  for (size_t got = block.size(); got == block.size(); bytes += static_cast<int64_t>(got)) {
    ESPALIER_ASSIGN_OR_RETURN(got, stream.Read(block.data(), block.size()));
    if (digest != nullptr) digest->Update(std::string_view(block.data(), got));
  }
  return bytes;
}

absl::StatusOr<int64_t> CountCifarRows(const Source& source, const std::vector<FileEntry>& files,
                                       const std::string& name) {
  const auto entry = std::find_if(files.begin(), files.end(),
                                  [&](const FileEntry& file) { return file.name == name; });
  constexpr int64_t kRecordBytes = 1 + kCifarFeatures;
  if (!name.ends_with(".gz")) return entry->bytes / kRecordBytes;
  // gzip has no size in its header.
  ESPALIER_ASSIGN_OR_RETURN(const int64_t bytes, CountBytes(source, name, nullptr));
  return bytes / kRecordBytes;
}

// Rows, features and classes of one part of a data set.
struct Extent {
  int64_t rows = 0;
  int64_t features = 0;
  int64_t classes = 0;
  std::array<int64_t, 3> image = {};  // channels, height and width, where the files say
  int64_t targets = 0;                // numbers to be learned, in place of classes
};

absl::StatusOr<Extent> PairExtent(const Source& source, Format format, const v1::DataSpec& view,
                                  const std::vector<std::string>& files) {
  Extent extent;
  if (files.empty()) return extent;
  LoadOptions header_only = source.options;
  header_only.bytes_left = nullptr;
  header_only.max_file_bytes = std::numeric_limits<int64_t>::max();
  ESPALIER_ASSIGN_OR_RETURN(ByteStream values,
                            (Source{source.root, source.dataset, header_only}.Open(files[0])));
  ESPALIER_ASSIGN_OR_RETURN(ByteStream labels, source.Open(files[1]));
  std::vector<int64_t> classes;
  if (format == Format::kIdx) {
    ESPALIER_ASSIGN_OR_RETURN(const IdxHeader header, ReadIdxHeader(values));
    ESPALIER_ASSIGN_OR_RETURN(classes, ReadIdxLabels(labels));
    extent = {header.rows(), header.features(), 0, {}};
    if (header.dims.size() == 3) extent.image = {1, header.dims[1], header.dims[2]};
  } else {
    ESPALIER_ASSIGN_OR_RETURN(const NpyHeader header, ReadNpyHeader(values));
    extent = {header.rows(), header.features(), 0, {}};
    if (HasTargets(view)) {
      ESPALIER_ASSIGN_OR_RETURN(const NpyHeader targets, ReadNpyHeader(labels));
      extent.targets = targets.features();
    } else {
      ESPALIER_ASSIGN_OR_RETURN(classes, ReadNpyIntegers(labels));
    }
  }
  if (!classes.empty()) extent.classes = *std::max_element(classes.begin(), classes.end()) + 1;
  return extent;
}

absl::Status DescribePairs(const Source& source, const Layout& layout, const v1::DataSpec& view,
                           v1::DatasetInfo& info) {
  ESPALIER_ASSIGN_OR_RETURN(const Extent train,
                            PairExtent(source, layout.format, view, layout.train));
  ESPALIER_ASSIGN_OR_RETURN(const Extent test,
                            PairExtent(source, layout.format, view, layout.test));
  info.set_targets(train.targets);
  info.set_features(train.features);
  info.set_image_channels(train.image[0]);
  info.set_image_height(train.image[1]);
  info.set_image_width(train.image[2]);
  info.set_classes(std::max(train.classes, test.classes));
  info.set_train_examples(train.rows);
  info.set_test_examples(test.rows);
  return absl::OkStatus();
}

absl::Status DescribeCifar(const Source& source, const std::vector<FileEntry>& files,
                           const Layout& layout, v1::DatasetInfo& info) {
  info.set_features(kCifarFeatures);
  info.set_image_channels(kCifarChannels);
  info.set_image_height(kCifarSide);
  info.set_image_width(kCifarSide);
  info.set_classes(kCifarClasses);
  for (const std::string& name : layout.train) {
    ESPALIER_ASSIGN_OR_RETURN(const int64_t rows, CountCifarRows(source, files, name));
    info.set_train_examples(info.train_examples() + rows);
  }
  for (const std::string& name : layout.test) {
    ESPALIER_ASSIGN_OR_RETURN(const int64_t rows, CountCifarRows(source, files, name));
    info.set_test_examples(info.test_examples() + rows);
  }
  return absl::OkStatus();
}

absl::Status DescribeCsv(const Source& source, const Layout& layout, const v1::DataSpec& view,
                         v1::DatasetInfo& info) {
  DatasetBuilder counter(source.options, /*keep_values=*/false);
  CsvReader csv(view, CsvReader::Purpose::kDescribe, counter);
  ESPALIER_RETURN_IF_ERROR(ReadAll(source, layout, view.target(), csv, counter));
  csv.Describe(info);
  info.set_classes(counter.num_classes());
  info.set_train_examples(counter.train_rows());
  info.set_test_examples(counter.rows() - counter.train_rows());
  return absl::OkStatus();
}

// Bounds of what is counted when a worker starts, after decompression.
constexpr int64_t kMostCountedOfFile = int64_t{64} << 20;
constexpr int64_t kMostDescribedOfFile = int64_t{256} << 20;  // when a job asks
constexpr int64_t kMostCounted = int64_t{1} << 30;
constexpr int64_t kMostMemoryOfCounting = int64_t{256} << 20;
// Of what is said of a data set: it is one message.
constexpr size_t kMostDescriptionBytes = size_t{2} << 20;
constexpr int kMostNamesDescribed = 64;

absl::Status Count(const Source& source, const std::vector<FileEntry>& files, const Layout& layout,
                   const v1::DataSpec& view, v1::DatasetInfo& info) {
  switch (layout.format) {
    case Format::kIdx:
    case Format::kNpy:
      return DescribePairs(source, layout, view, info);
    case Format::kCifar10:
      return DescribeCifar(source, files, layout, info);
    case Format::kCsv:
      return DescribeCsv(source, layout, view, info);
    case Format::kImages:
      ESPALIER_ASSIGN_OR_RETURN(
          info, DescribeImages(source.root, source.dataset, kMostNamesDescribed, source.options));
  }
  return absl::OkStatus();
}

// As labelled examples, or as text.
absl::StatusOr<v1::DatasetInfo> DescribeExamples(const DataRoot& root, const v1::DataSpec& view,
                                                 const std::vector<FileEntry>& files,
                                                 const LoadOptions& options) {
  const std::string& name = view.dataset();
  const bool is_text = DetectTextLayout(name, files).ok();
  v1::DatasetInfo info;
  info.set_name(name);
  const absl::StatusOr<Layout> detected = FindLayout(root, view, files, options);
  if (!detected.ok()) {
    // How many examples a text gives depends on the job's context.
    if (!is_text) return detected.status();
    info.set_format("text");
    return info;
  }
  info.set_format(FormatName(detected->format));
  v1::DatasetInfo counted = info;
  const absl::Status status = Count(Source{root, name, options}, files, *detected, view, counted);
  if (base::ReasonOf(status) == kDatasetTooLarge) {
    log::Info("dataset_not_counted", {{"dataset", name}, {"message", base::MessageOf(status)}});
    return info;
  }
  ESPALIER_RETURN_IF_ERROR(status);
  return counted;
}

absl::StatusOr<v1::DatasetInfo> Describe(const DataRoot& root, const std::string& name,
                                         const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<FileEntry> files, root.Files(name));
  const auto interactions = DescribeInteractions(root, name, files, options);
  const bool is_text = DetectTextLayout(name, files).ok();
  // The files of a text and of LightGCN's interactions have the same names.
  if (!interactions.ok() && !is_text) return interactions.status();
  v1::DataSpec as_it_looks;
  as_it_looks.set_dataset(name);
  if (!interactions.ok() || !interactions->has_value()) {
    return DescribeExamples(root, as_it_looks, files, options);
  }
  const InteractionReading& reading = **interactions;
  if (reading.certain && (!is_text || reading.info.interactions() > 0)) return reading.info;
  auto examples = DescribeExamples(root, as_it_looks, files, options);
  if (reading.certain) return examples;
  if (!examples.ok()) {
    v1::DatasetInfo info = reading.info;
    info.set_problem(base::MessageOf(examples.status()));
    return info;
  }
  examples->set_users(reading.info.users());
  examples->set_items(reading.info.items());
  examples->set_interactions(reading.info.interactions());
  return examples;
}

// How much text there is; how many examples it gives depends on the job's context.
absl::StatusOr<v1::DatasetInfo> DescribeText(const DataRoot& root, const v1::DataSpec& view,
                                             const std::vector<FileEntry>& files,
                                             const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const TextLayout layout, DetectTextLayout(view.dataset(), files));
  const Source source{root, view.dataset(), options};
  v1::DatasetInfo info;
  info.set_format("text");
  ESPALIER_ASSIGN_OR_RETURN(const int64_t train, CountBytes(source, layout.train, nullptr));
  ESPALIER_ASSIGN_OR_RETURN(const int64_t test, CountBytes(source, layout.test, nullptr));
  info.set_train_bytes(train);
  info.set_test_bytes(test);
  return info;
}

// What a job takes a folder for: what is asked of each of them.
class ViewKind {
 public:
  virtual ~ViewKind() = default;
  virtual absl::StatusOr<v1::DatasetInfo> Describe(const DataRoot& root, const v1::DataSpec& view,
                                                   const std::vector<FileEntry>& files,
                                                   const LoadOptions& options) const = 0;
  // The files whose contents are what a job trains on, in a fixed order; "" is none.
  virtual std::vector<std::string> Files(const v1::DataSpec& view,
                                         const std::vector<FileEntry>& files) const = 0;
  // Whether the folder's files are of this kind.
  virtual bool CanBe(const DataRoot& root, const v1::DataSpec& view,
                     const std::vector<FileEntry>& files, const LoadOptions& options) const = 0;
  // By the names of the files; "" where they do not tell.
  virtual std::string Format(const v1::DataSpec& view,
                             const std::vector<FileEntry>& files) const = 0;
};

class TextView : public ViewKind {
 public:
  absl::StatusOr<v1::DatasetInfo> Describe(const DataRoot& root, const v1::DataSpec& view,
                                           const std::vector<FileEntry>& files,
                                           const LoadOptions& options) const override {
    return DescribeText(root, view, files, options);
  }
  std::vector<std::string> Files(const v1::DataSpec& view,
                                 const std::vector<FileEntry>& files) const override {
    const auto layout = DetectTextLayout(view.dataset(), files);
    if (!layout.ok()) return {};
    return {layout->train, layout->test, layout->tokenizer};
  }
  bool CanBe(const DataRoot&, const v1::DataSpec& view, const std::vector<FileEntry>& files,
             const LoadOptions&) const override {
    return DetectTextLayout(view.dataset(), files).ok();
  }
  std::string Format(const v1::DataSpec&, const std::vector<FileEntry>&) const override {
    return "text";
  }
};

class InteractionView : public ViewKind {
 public:
  absl::StatusOr<v1::DatasetInfo> Describe(const DataRoot& root, const v1::DataSpec& view,
                                           const std::vector<FileEntry>&,
                                           const LoadOptions& options) const override {
    return DescribeInteractions(root, view, options);
  }
  std::vector<std::string> Files(const v1::DataSpec& view,
                                 const std::vector<FileEntry>& files) const override {
    return InteractionFileNames(view, files);
  }
  bool CanBe(const DataRoot&, const v1::DataSpec& view, const std::vector<FileEntry>& files,
             const LoadOptions&) const override {
    return !InteractionFileNames(view, files).empty();
  }
  std::string Format(const v1::DataSpec&, const std::vector<FileEntry>&) const override {
    return "";
  }
};

// Rows of tables, and images.
class ExampleView : public ViewKind {
 public:
  absl::StatusOr<v1::DatasetInfo> Describe(const DataRoot& root, const v1::DataSpec& view,
                                           const std::vector<FileEntry>& files,
                                           const LoadOptions& options) const override {
    return DescribeExamples(root, view, files, options);
  }
  std::vector<std::string> Files(const v1::DataSpec& view,
                                 const std::vector<FileEntry>& files) const override {
    const auto layout = DetectLayout(view.dataset(), files, view.format(), false);
    if (!layout.ok()) return {};
    std::vector<std::string> names = layout->train;
    names.insert(names.end(), layout->test.begin(), layout->test.end());
    return names;
  }
  bool CanBe(const DataRoot& root, const v1::DataSpec& view, const std::vector<FileEntry>& files,
             const LoadOptions& options) const override {
    const auto interactions = DescribeInteractions(root, view.dataset(), files, options);
    const bool are_interactions =
        interactions.ok() && interactions->has_value() && (*interactions)->certain;
    return !are_interactions && FindLayout(root, view, files, options).ok();
  }
  std::string Format(const v1::DataSpec& view, const std::vector<FileEntry>& files) const override {
    const auto layout = DetectLayout(view.dataset(), files, view.format(), false);
    return layout.ok() ? FormatName(layout->format) : "";
  }
};

const ViewKind& KindOf(const v1::DataSpec& view) {
  static const TextView text;
  static const InteractionView interactions;
  static const ExampleView examples;
  if (view.has_text()) return text;
  if (view.has_interactions()) return interactions;
  return examples;
}

absl::StatusOr<std::string> DigestOf(const DataRoot& root, const v1::DataSpec& view,
                                     const std::vector<FileEntry>& files,
                                     const v1::DatasetInfo& info, const LoadOptions& options) {
  if (info.format() == "images") return DigestOfImages(root, view.dataset(), options);
  io::Sha256 digest;
  for (const std::string& name : KindOf(view).Files(view, files)) {
    if (name.empty()) continue;
    // Lengths tell where one file ends and the next begins.
    ESPALIER_ASSIGN_OR_RETURN(const int64_t bytes,
                              CountBytes(Source{root, view.dataset(), options}, name, &digest));
    digest.Update(fmt::format("\n{}\n", bytes));
  }
  return digest.HexDigest();
}

// A data set that takes too long to be read before a job that only asks about it: by name and
// format.
v1::DatasetInfo NotDescribed(const v1::DataSpec& view, const std::vector<FileEntry>& files) {
  v1::DatasetInfo info;
  info.set_name(view.dataset());
  info.set_format(KindOf(view).Format(view, files));
  return info;
}

LoadOptions ForDescribing(const LoadOptions& whole) {
  LoadOptions options = whole;
  options.max_file_bytes = std::min(whole.max_file_bytes, kMostDescribedOfFile);
  options.max_memory_bytes = std::min(whole.max_memory_bytes, kMostMemoryOfCounting);
  return options;
}

// What a registration need not carry.
void LeaveOutNames(v1::DatasetInfo& info) {
  if (info.columns_size() > kMostNamesDescribed) {
    info.mutable_columns()->DeleteSubrange(kMostNamesDescribed,
                                           info.columns_size() - kMostNamesDescribed);
  }
  if (info.class_names_size() > kMostNamesDescribed) {
    info.mutable_class_names()->DeleteSubrange(kMostNamesDescribed,
                                               info.class_names_size() - kMostNamesDescribed);
  }
}

}  // namespace

absl::StatusOr<v1::DatasetInfo> DescribeDataset(const DataRoot& root, const v1::DataSpec& view,
                                                const LoadOptions& whole) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<FileEntry> files, root.Files(view.dataset()));
  const LoadOptions options = ForDescribing(whole);
  absl::StatusOr<v1::DatasetInfo> info = KindOf(view).Describe(root, view, files, options);
  if (base::ReasonOf(info.status()) == kDatasetTooLarge) return NotDescribed(view, files);
  if (!info.ok()) {
    // Data of another kind is no fault of the files: the job is told what there is.
    if (KindOf(view).CanBe(root, view, files, options)) return info.status();
    auto looks = Describe(root, view.dataset(), options);
    return looks.ok() ? looks : info.status();
  }
  info->set_name(view.dataset());
  if (view.has_image_size() && info->format() == "images") {
    info->set_image_channels(view.image_size().channels());
    info->set_image_height(view.image_size().height());
    info->set_image_width(view.image_size().width());
    info->set_features(info->image_channels() * info->image_height() * info->image_width());
  }
  auto digest = DigestOf(root, view, files, *info, options);
  if (base::ReasonOf(digest.status()) == kDatasetTooLarge) return NotDescribed(view, files);
  ESPALIER_RETURN_IF_ERROR(digest.status());
  info->set_digest(*digest);
  if (info->ByteSizeLong() <= kMostDescriptionBytes) return info;
  return DatasetInvalid(
      view.dataset(),
      {"",
       fmt::format("names of columns, classes and words of at most {} bytes together",
                   kMostDescriptionBytes),
       fmt::format("{}", info->ByteSizeLong()), "leave the header out, or use shorter names"});
}

absl::StatusOr<v1::DatasetInfo> DescribeByLooks(const DataRoot& root, const std::string& name,
                                                const LoadOptions& whole) {
  return Describe(root, name, ForDescribing(whole));
}

std::vector<v1::DatasetInfo> ScanDataRoot(const std::string& root,
                                          std::vector<std::string>& problems,
                                          const LoadOptions& options) {
  const absl::StatusOr<DataRoot> opened = DataRoot::Open(root);
  if (!opened.ok()) {
    problems.push_back(base::MessageOf(opened.status()));
    return {};
  }
  int64_t left = kMostCounted;
  const LoadOptions scan = {.max_file_bytes = kMostCountedOfFile,
                            .max_memory_bytes = kMostMemoryOfCounting,
                            .bytes_left = &left,
                            .cancelled = options.cancelled};
  std::vector<v1::DatasetInfo> found;
  for (const std::string& name : opened->Datasets()) {
    absl::StatusOr<v1::DatasetInfo> info = Describe(*opened, name, scan);
    if (scan.is_cancelled()) break;
    if (!info.ok()) {
      problems.push_back(base::MessageOf(info.status()));
      info.emplace();
      info->set_name(name);
      info->set_problem(problems.back());
    }
    LeaveOutNames(*info);
    found.push_back(*std::move(info));
  }
  for (const Stray& stray : opened->Strays()) {
    problems.push_back(stray.problem);
    v1::DatasetInfo& info = found.emplace_back();
    info.set_name(stray.name);
    info.set_problem(stray.problem);
  }
  return found;
}

}  // namespace espalier::worker::data
