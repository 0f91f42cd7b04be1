#include "worker/data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "common/base/check.h"
#include "common/base/status.h"
#include "worker/data/errors.h"

namespace espalier::worker::data {
namespace {

constexpr int64_t kMaxRows = std::numeric_limits<int32_t>::max();
constexpr int64_t kMaxFeatures = int64_t{1} << 30;

absl::Status OutOfMemory() {
  return base::MakeError(absl::StatusCode::kResourceExhausted, "OUT_OF_MEMORY",
                         "the data set does not fit into this worker's memory; use a smaller one");
}

bool IsByte(float value) {
  return value >= 0.0f && value <= 255.0f && value == static_cast<float>(static_cast<int>(value));
}

}  // namespace

bool GrowingBuffer::Reallocate(size_t capacity) {
  void* moved = std::realloc(bytes_.get(), capacity);
  if (moved == nullptr) return false;
  static_cast<void>(bytes_.release());
  bytes_.reset(static_cast<uint8_t*>(moved));
  capacity_ = capacity;
  return true;
}

uint8_t* GrowingBuffer::Append(size_t count) {
  if (count > capacity_ - size_) {
    const size_t grown = std::max(size_ + count, capacity_ + capacity_ / 2);
    if (!Reallocate(grown) && !Reallocate(size_ + count)) return nullptr;
  }
  uint8_t* place = bytes_.get() + size_;
  size_ += count;
  return place;
}

void GrowingBuffer::ShrinkToFit() {
  if (size_ > 0 && size_ < capacity_) Reallocate(size_);
}

int64_t Dataset::memory_bytes() const {
  return static_cast<int64_t>(values_.size() + labels_.size() * sizeof(int32_t) +
                              groups_.size() * sizeof(int64_t) + targets_.size() * sizeof(float));
}

absl::Status CheckFits(const Dataset& dataset, int64_t inputs, int64_t outputs) {
  if (inputs != dataset.features()) {
    return DatasetInvalid(dataset.name(),
                          {"", fmt::format("{} features, the inputs of the model", inputs),
                           fmt::format("{} features", dataset.features()),
                           fmt::format("set the model's input size to {}", dataset.features())});
  }
  if (dataset.num_targets() > 0) {
    if (dataset.num_targets() == outputs) return absl::OkStatus();
    return DatasetInvalid(
        dataset.name(),
        {"", fmt::format("{} numbers to be learned, the outputs of the model", outputs),
         fmt::format("{}", dataset.num_targets()),
         fmt::format("set the units of the last layer to {}, or "
                     "data.target_columns to {} columns",
                     dataset.num_targets(), outputs)});
  }
  if (dataset.num_classes() <= outputs) return absl::OkStatus();
  const auto labels = dataset.labels();
  const auto first =
      std::find_if(labels.begin(), labels.end(), [&](int32_t label) { return label >= outputs; });
  const bool in_rows = first != labels.end();
  return DatasetInvalid(
      dataset.name(),
      {in_rows ? fmt::format("row {}", first - labels.begin()) : "",
       fmt::format("labels below {}, the outputs of the model", outputs),
       in_rows ? fmt::format("label {}", *first) : fmt::format("{} classes", dataset.num_classes()),
       fmt::format("set the model's output size to {} or correct the labels",
                   dataset.num_classes())});
}

absl::Status DatasetBuilder::SetFeatures(int64_t features, std::string_view file) {
  if (features < 1 || features > kMaxFeatures) {
    return DatasetInvalid(file, {"", fmt::format("1 to {} features in a row", kMaxFeatures),
                                 fmt::format("{}", features), "check how the file was written"});
  }
  file_ = file;
  if (dataset_.features_ == 0) dataset_.features_ = features;
  if (dataset_.features_ == features) return absl::OkStatus();
  return DatasetInvalid(
      file, {"", fmt::format("{} features in a row as in the files before it", dataset_.features_),
             fmt::format("{}", features), "use training and test files made the same way"});
}

absl::StatusOr<uint8_t*> DatasetBuilder::AppendRaw(int64_t rows, int64_t value_bytes) {
  ESPALIER_CHECK(keep_values_, "this builder only counts");
  if (rows_ + rows > kMaxRows) {
    return base::MakeError(absl::StatusCode::kResourceExhausted, kDatasetInvalid,
                           fmt::format("data sets have at most {} rows; split it", kMaxRows));
  }
  const auto bytes = static_cast<size_t>(rows * features() * value_bytes);
  ESPALIER_RETURN_IF_ERROR(CheckMemory(bytes));
  uint8_t* place = dataset_.values_.Append(bytes);
  if (place == nullptr) return OutOfMemory();
  rows_ += rows;
  return place;
}

absl::Status DatasetBuilder::CheckMemory(size_t more) const {
  return options_.CheckMemory(file_,
                              static_cast<int64_t>(dataset_.values_.size() + more +
                                                   dataset_.labels_.capacity() * sizeof(int32_t) +
                                                   dataset_.targets_.capacity() * sizeof(float)));
}

absl::StatusOr<uint8_t*> DatasetBuilder::AppendByteRows(int64_t rows) {
  ESPALIER_CHECK(is_bytes(), "values were widened to float before");
  return AppendRaw(rows, 1);
}

absl::StatusOr<float*> DatasetBuilder::AppendFloatRows(int64_t rows) {
  ESPALIER_RETURN_IF_ERROR(WidenToFloat());
  ESPALIER_ASSIGN_OR_RETURN(uint8_t* const place, AppendRaw(rows, sizeof(float)));
  return reinterpret_cast<float*>(place);
}

absl::Status DatasetBuilder::AppendRow(std::span<const float> values) {
  const bool fits = is_bytes() && std::all_of(values.begin(), values.end(), IsByte);
  if (!keep_values_) {
    // Labels are kept even so.
    ESPALIER_RETURN_IF_ERROR(CheckMemory(0));
    dataset_.is_bytes_ = fits;
    ++rows_;
    return absl::OkStatus();
  }
  if (fits) {
    ESPALIER_ASSIGN_OR_RETURN(uint8_t* const row, AppendByteRows(1));
    std::transform(values.begin(), values.end(), row,
                   [](float value) { return static_cast<uint8_t>(value); });
    return absl::OkStatus();
  }
  ESPALIER_ASSIGN_OR_RETURN(float* const row, AppendFloatRows(1));
  std::copy(values.begin(), values.end(), row);
  return absl::OkStatus();
}

// From the last value to the first: value i is written to bytes 4i..4i+3, all of which were read
// before.
absl::Status DatasetBuilder::WidenToFloat() {
  if (!is_bytes()) return absl::OkStatus();
  dataset_.is_bytes_ = false;
  const size_t count = dataset_.values_.size();
  if (count == 0) return absl::OkStatus();
  ESPALIER_RETURN_IF_ERROR(CheckMemory(count * (sizeof(float) - 1)));
  if (dataset_.values_.Append(count * (sizeof(float) - 1)) == nullptr) return OutOfMemory();
  uint8_t* bytes = dataset_.values_.data();
  for (size_t i = count; i-- > 0;) {
    const auto value = static_cast<float>(bytes[i]);
    std::memcpy(bytes + i * sizeof(float), &value, sizeof(float));
  }
  return absl::OkStatus();
}

void DatasetBuilder::MapLabels(std::span<const int32_t> classes,
                               std::vector<std::string> class_names) {
  for (int32_t& label : dataset_.labels_) label = classes[static_cast<size_t>(label)];
  dataset_.class_names_ = std::move(class_names);
}

int32_t DatasetBuilder::num_classes() const {
  const auto& labels = dataset_.labels_;
  return labels.empty() ? 0 : *std::max_element(labels.begin(), labels.end()) + 1;
}

Dataset DatasetBuilder::Finish(std::string name, std::string format, int32_t min_classes) {
  ESPALIER_CHECK(static_cast<int64_t>(dataset_.labels_.size()) == rows_, "a label for every row");
  dataset_.name_ = std::move(name);
  dataset_.format_ = std::move(format);
  dataset_.num_classes_ = std::max(num_classes(), min_classes);
  dataset_.values_.ShrinkToFit();
  dataset_.labels_.shrink_to_fit();
  return std::move(dataset_);
}

}  // namespace espalier::worker::data
