#include "worker/data/prediction/prediction.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include "common/base/status.h"
#include "common/io/file_system.h"
#include "worker/data/byte_stream.h"
#include "worker/data/errors.h"
#include "worker/data/images/collector.h"
#include "worker/data/readers.h"
#include "worker/data/table/cells.h"
#include "worker/data/table/csv_header.h"
#include "worker/data/table/delimiter.h"
#include "worker/data/table/records.h"
#include "worker/data/table/row_encoder.h"
#include "worker/data/table/target_columns.h"

namespace espalier::worker::data {
namespace {

using Cells = RowEncoder::Cells;

constexpr char kRequest[] = "the request";
constexpr char kExample[] = "example";

std::string AtExample(int64_t number) { return fmt::format("{} {}", kExample, number); }

// The rows of one table on their way to a data set.
class TableEncoder {
 public:
  TableEncoder(const v1::DataSpec& spec, int64_t features, const LoadOptions& options)
      : spec_(spec),
        features_(features),
        builder_(options),
        encoder_(spec, RowEncoder::Purpose::kPredict) {
    for (int i = 0; i < spec.agreement().columns_size(); ++i) {
      encoder_.AddColumn("");
      encoder_.SetAgreed(static_cast<size_t>(i), spec.agreement().columns(i), /*named=*/true);
    }
    // Nothing was agreed on: a column for each input.
    if (spec.agreement().columns().empty()) {
      for (int64_t i = 0; i < features; ++i) encoder_.AddColumn("");
    }
    row_.resize(encoder_.features());
  }

  // Whether columns are found by their names.
  bool named() const {
    return std::any_of(encoder_.columns().begin(), encoder_.columns().end(),
                       [](const auto& column) { return !column.name.empty(); });
  }

  absl::Status MatchNames(std::string_view file, const std::vector<std::string>& names) {
    std::vector<std::string> missing;
    std::vector<size_t> places;
    for (const RowEncoder::Column& column : encoder_.columns()) {
      const auto found = std::find(names.begin(), names.end(), column.name);
      if (found == names.end()) missing.push_back(column.name);
      places.push_back(static_cast<size_t>(found - names.begin()));
    }
    if (!missing.empty()) {
      return DatasetInvalid(
          file, {"", "a column of each name that the model was trained with, in any order",
                 fmt::format("none called {} among {}", SomeOf(missing), SomeOf(names)),
                 "give the columns the names that the training files have"});
    }
    encoder_.SetPlaces(std::move(places));
    width_ = names.size();
    return absl::OkStatus();
  }

  // By place: as many columns as the model has, or those and the ones that were learned, which are
  // passed over.
  absl::Status MatchPlaces(std::string_view file, const std::vector<std::string>& names) {
    const size_t columns = encoder_.columns().size();
    const size_t width = names.size();
    TargetColumns targets(spec_);
    const bool has_targets = width > columns;
    if (has_targets) {
      const bool header = std::any_of(names.begin(), names.end(),
                                      [](const std::string& name) { return !name.empty(); });
      ESPALIER_RETURN_IF_ERROR(targets.Find(std::string(file), names, header));
    }
    if (width != columns + targets.size()) {
      return DatasetInvalid(
          file,
          {"",
           fmt::format("{} columns, or those and the ones that the model learned to tell", columns),
           fmt::format("{}", width), "give the columns that the training files have"});
    }
    std::vector<size_t> places;
    for (size_t place = 0; place < width; ++place) {
      if (!targets.Has(place)) places.push_back(place);
    }
    encoder_.SetPlaces(std::move(places));
    width_ = width;
    return absl::OkStatus();
  }

  absl::Status Add(const RowEncoder::Place& place, const Cells& cells) {
    if (builder_.rows() == 0) {
      ESPALIER_RETURN_IF_ERROR(CheckInputs(place.file));
      ESPALIER_RETURN_IF_ERROR(builder_.SetFeatures(features_, place.file));
    }
    if (cells.size() != width_) {
      return DatasetInvalid(place.file, {fmt::format("{} {}", place.unit, place.number),
                                         fmt::format("{} cells, as there are columns", width_),
                                         fmt::format("{}", cells.size()), "complete the row"});
    }
    bool gap = false;
    ESPALIER_RETURN_IF_ERROR(encoder_.Encode(place, cells, row_.data(), &gap));
    builder_.AppendLabel(0);
    return builder_.AppendRow(row_);
  }

  Dataset Finish(const std::string& name) { return builder_.Finish(name, "csv", 1); }
  int64_t rows() const { return builder_.rows(); }

 private:
  absl::Status CheckInputs(std::string_view file) const {
    if (static_cast<int64_t>(row_.size()) == features_) return absl::OkStatus();
    return DatasetInvalid(
        file, {"", fmt::format("a model for a table of {} inputs", row_.size()),
               fmt::format("one of {}", features_), "ask a model that was trained on tables"});
  }

  const v1::DataSpec& spec_;
  const int64_t features_;
  DatasetBuilder builder_;
  RowEncoder encoder_;
  std::vector<float> row_;
  size_t width_ = 0;
};

// Whether the first line of a table names its columns.
bool FirstLineIsHeader(const v1::DataSpec& spec, const TableEncoder& encoder, const Cells& first,
                       const Cells* second) {
  if (encoder.named() || spec.header() == v1::DataSpec::HEADER_PRESENT) return true;
  if (spec.header() == v1::DataSpec::HEADER_ABSENT) return false;
  return JudgeFirstRow(first, second, first.size()) == FirstRow::kHeader;
}

absl::StatusOr<Dataset> ReadTable(const std::string& path, const v1::DataSpec& spec,
                                  int64_t features, const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(ByteStream stream, OpenStream(path, options));
  RecordReader records(stream, DelimiterOf(spec.delimiter()));
  TableEncoder encoder(spec, features, options);
  ESPALIER_ASSIGN_OR_RETURN(bool more, records.Next());
  if (more) {
    // Cells point into the reader, which goes on to the second line.
    const std::vector<std::string> kept(records.cells().begin(), records.cells().end());
    const Cells first(kept.begin(), kept.end());
    const int64_t line = records.line_number();
    ESPALIER_ASSIGN_OR_RETURN(more, records.Next());
    const bool header = FirstLineIsHeader(spec, encoder, first, more ? &records.cells() : nullptr);
    ESPALIER_RETURN_IF_ERROR(
        encoder.named()
            ? encoder.MatchNames(path, UniqueNames(first))
            : encoder.MatchPlaces(
                  path, header ? UniqueNames(first) : std::vector<std::string>(first.size())));
    if (!header) ESPALIER_RETURN_IF_ERROR(encoder.Add({path, line, records.delimiter()}, first));
  }
  while (more) {
    ESPALIER_RETURN_IF_ERROR(
        encoder.Add({path, records.line_number(), records.delimiter()}, records.cells()));
    ESPALIER_ASSIGN_OR_RETURN(more, records.Next());
  }
  if (encoder.rows() == 0) {
    return DatasetInvalid(path, {"", "one example a line", "none", "give at least one"});
  }
  return encoder.Finish(path);
}

absl::Status CheckFeatures(const std::string& file, int64_t found, int64_t features) {
  if (found == features) return absl::OkStatus();
  return DatasetInvalid(
      file, {"", fmt::format("examples of {} values, as the model was trained with", features),
             fmt::format("{}", found), "give examples as the training files have them"});
}

absl::StatusOr<Dataset> ReadArray(const std::string& path, int64_t features,
                                  const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(ByteStream stream, OpenStream(path, options));
  DatasetBuilder builder(options);
  ESPALIER_RETURN_IF_ERROR(ReadNpyRows(stream, builder));
  ESPALIER_RETURN_IF_ERROR(CheckFeatures(path, builder.features(), features));
  for (int64_t row = 0; row < builder.rows(); ++row) builder.AppendLabel(0);
  return builder.Finish(path, "npy", 1);
}

bool HasEnding(const std::string& name, std::initializer_list<std::string_view> endings) {
  std::string lower = name;
  std::transform(lower.begin(), lower.end(), lower.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return std::any_of(endings.begin(), endings.end(),
                     [&](std::string_view ending) { return lower.ends_with(ending); });
}

bool IsImage(const std::string& name) { return HasEnding(name, {".png", ".jpg", ".jpeg"}); }

absl::StatusOr<std::vector<std::string>> ImagesAt(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return std::vector<std::string>{path};
  std::vector<std::string> images;
  for (const auto& entry : std::filesystem::directory_iterator(path, error)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with('.') && IsImage(name)) images.push_back(entry.path().string());
  }
  std::sort(images.begin(), images.end());
  if (!images.empty()) return images;
  return DatasetInvalid(path, {"", ".png, .jpg or .jpeg files in the folder", "none",
                               "name a folder with images, or one file"});
}

absl::Status AddImage(const std::string& path, const LoadOptions& options,
                      ImageCollector& collector) {
  ESPALIER_ASSIGN_OR_RETURN(const auto file, io::PosixFileSystem().Open(path));
  ESPALIER_RETURN_IF_ERROR(
      options.CheckMemory(path, collector.held() + static_cast<int64_t>(file->size())));
  EncodedImage image{path, std::vector<uint8_t>(file->size())};
  ESPALIER_RETURN_IF_ERROR(file->ReadAt(0, image.bytes.data(), image.bytes.size()));
  return collector.Add(image, 0);
}

absl::StatusOr<Dataset> FinishImages(ImageCollector& collector, const std::string& name,
                                     int64_t features) {
  ESPALIER_RETURN_IF_ERROR(CheckFeatures(name, collector.builder().features(), features));
  return collector.builder().Finish(name, "images", 1);
}

absl::StatusOr<Unlabelled> ReadImages(const std::string& path, const v1::DataSpec& spec,
                                      int64_t features, const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const std::vector<std::string> images, ImagesAt(path));
  ImageCollector collector(spec, options, 0);
  for (const std::string& image : images) {
    ESPALIER_RETURN_IF_ERROR(options.CheckGoesOn());
    ESPALIER_RETURN_IF_ERROR(AddImage(image, options, collector));
  }
  ESPALIER_ASSIGN_OR_RETURN(Dataset dataset, FinishImages(collector, path, features));
  std::vector<std::string> names;
  names.reserve(images.size());
  for (const std::string& image : images) {
    names.push_back(std::filesystem::path(image).filename().string());
  }
  return Unlabelled{std::move(dataset), std::move(names)};
}

absl::StatusOr<Dataset> EncodeImages(const v1::Examples& examples, const v1::DataSpec& spec,
                                     int64_t features, const LoadOptions& options) {
  ImageCollector collector(spec, options, 0);
  for (int i = 0; i < examples.examples_size(); ++i) {
    const std::string& bytes = examples.examples(i).image();
    const EncodedImage image{AtExample(i + 1), {bytes.begin(), bytes.end()}};
    ESPALIER_RETURN_IF_ERROR(collector.Add(image, 0));
  }
  return FinishImages(collector, kRequest, features);
}

absl::StatusOr<Dataset> EncodeCells(const v1::Examples& examples, const v1::DataSpec& spec,
                                    int64_t features, const LoadOptions& options) {
  TableEncoder encoder(spec, features, options);
  if (encoder.named() || !examples.columns().empty()) {
    const std::vector<std::string_view> names(examples.columns().begin(), examples.columns().end());
    if (!encoder.named()) {
      return DatasetInvalid(kRequest, {"", "no columns: the training files had no names of columns",
                                       fmt::format("{}", names.size()),
                                       "leave columns out, and give cells in the files' order"});
    }
    ESPALIER_RETURN_IF_ERROR(encoder.MatchNames(kRequest, UniqueNames(names)));
  } else {
    ESPALIER_RETURN_IF_ERROR(encoder.MatchPlaces(
        kRequest,
        std::vector<std::string>(static_cast<size_t>(examples.examples(0).cells_size()))));
  }
  for (int i = 0; i < examples.examples_size(); ++i) {
    const auto& row = examples.examples(i).cells();
    Cells cells;
    for (const std::string& cell : row) cells.push_back(Trim(cell));
    ESPALIER_RETURN_IF_ERROR(encoder.Add({kRequest, i + 1, ',', kExample}, cells));
  }
  return encoder.Finish(kRequest);
}

absl::StatusOr<Dataset> EncodeValues(const v1::Examples& examples, int64_t features,
                                     const LoadOptions& options) {
  DatasetBuilder builder(options);
  ESPALIER_RETURN_IF_ERROR(builder.SetFeatures(features, kRequest));
  for (int i = 0; i < examples.examples_size(); ++i) {
    const auto& values = examples.examples(i).values();
    if (values.size() != features) {
      return DatasetInvalid(
          kRequest,
          {AtExample(i + 1), fmt::format("{} values, as the model was trained with", features),
           fmt::format("{}", values.size()), "give examples as the training files have them"});
    }
    const auto bad = std::find_if_not(values.begin(), values.end(),
                                      [](float value) { return std::isfinite(value); });
    if (bad != values.end()) {
      return DatasetInvalid(kRequest, {AtExample(i + 1), "finite numbers", fmt::format("{}", *bad),
                                       "leave examples with missing values out"});
    }
    ESPALIER_RETURN_IF_ERROR(builder.AppendRow({values.data(), static_cast<size_t>(features)}));
    builder.AppendLabel(0);
  }
  return builder.Finish(kRequest, "values", 1);
}

// Which of its fields an example has.
enum class Form { kValues, kCells, kImage, kOther };
Form FormOf(const v1::Example& example) {
  const bool values = !example.values().empty();
  const bool cells = !example.cells().empty();
  const bool image = !example.image().empty();
  if (int{values} + int{cells} + int{image} != 1) return Form::kOther;
  return values ? Form::kValues : cells ? Form::kCells : Form::kImage;
}

}  // namespace

absl::StatusOr<ByteStream> OpenStream(const std::string& path, const LoadOptions& options) {
  UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (fd.get() < 0) {
    return base::NotFound("FILE_NOT_FOUND",
                          fmt::format("expected a file to predict from at {}, found: {}",
                                      Quote(path), std::strerror(errno)));
  }
  return ByteStream::Open(std::move(fd), path, options);
}

absl::StatusOr<Unlabelled> ReadForPrediction(const std::string& path, const v1::DataSpec& spec,
                                             int64_t features, const LoadOptions& options) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error) || IsImage(path)) {
    return ReadImages(path, spec, features, options);
  }
  const bool array = HasEnding(path, {".npy", ".npy.gz"});
  ESPALIER_ASSIGN_OR_RETURN(Dataset dataset, array ? ReadArray(path, features, options)
                                                   : ReadTable(path, spec, features, options));
  return Unlabelled{std::move(dataset), {}};
}

absl::StatusOr<Dataset> EncodeExamples(const v1::Examples& examples, const v1::DataSpec& spec,
                                       int64_t features, const LoadOptions& options) {
  const Form form = examples.examples().empty() ? Form::kOther : FormOf(examples.examples(0));
  for (int i = 0; i < std::max(1, examples.examples_size()); ++i) {
    if (form != Form::kOther && FormOf(examples.examples(i)) == form) continue;
    return DatasetInvalid(kRequest,
                          {AtExample(i + 1), "values, cells or an image, the same in all examples",
                           "none, several, or another than in the first example",
                           "set one of these fields in every example"});
  }
  if (form == Form::kCells) return EncodeCells(examples, spec, features, options);
  if (form == Form::kImage) return EncodeImages(examples, spec, features, options);
  return EncodeValues(examples, features, options);
}

}  // namespace espalier::worker::data
