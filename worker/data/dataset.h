// Dataset: examples of one data set in memory, as small as they came.
//
// Shapes:      row-major [size][features] values, uint8 ("data as bytes") or float32; int32
//              labels [size], or float32 targets [size][num_targets]. Rows of the training files
//              come first, then those of the test files.
// Memory:      size × (features × (1 or 4) + 4) bytes, plus 8 per row when groups were read.
//              While it is read there is no second copy: storage grows in place.
// Ownership:   handed out as std::shared_ptr<const Dataset>.
// Threading:   immutable; shared freely.
// Determinism: a pure function of the files' bytes.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/data/load_options.h"

namespace espalier::worker::data {

// Bytes that grow by realloc(), which moves large blocks by remapping pages instead of copying
// them.
class GrowingBuffer {
 public:
  // Room for `count` more bytes, uninitialised; null when there is no memory.
  uint8_t* Append(size_t count);
  void ShrinkToFit();

  uint8_t* data() { return bytes_.get(); }
  const uint8_t* data() const { return bytes_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(uint8_t* bytes) const { std::free(bytes); }
  };

  bool Reallocate(size_t capacity);

  std::unique_ptr<uint8_t[], Free> bytes_;
  size_t size_ = 0;
  size_t capacity_ = 0;
};

class Dataset {
 public:
  const std::string& name() const { return name_; }
  // "idx", "cifar10", "csv" or "npy".
  const std::string& format() const { return format_; }
  int64_t size() const { return static_cast<int64_t>(labels_.size()); }
  // Rows [0, train_rows) came from training files, the others from test files.
  int64_t train_rows() const { return train_rows_; }
  int64_t features() const { return features_; }
  // Largest label + 1 (10 for CIFAR-10).
  int32_t num_classes() const { return num_classes_; }
  int32_t label(int64_t row) const { return labels_[static_cast<size_t>(row)]; }
  std::span<const int32_t> labels() const { return labels_; }
  // What the labels were called, by class; empty when they were integers.
  std::span<const std::string> class_names() const { return class_names_; }
  // Numbers to be learned in each row, in place of its label; 0: none.
  int64_t num_targets() const { return num_targets_; }
  const float* TargetRow(int64_t row) const { return targets_.data() + row * num_targets_; }
  // Group of each training row; empty unless a groups file was read.
  std::span<const int64_t> groups() const { return groups_; }

  bool is_bytes() const { return is_bytes_; }
  // The row's values; only the one that matches is_bytes() may be called.
  const uint8_t* ByteRow(int64_t row) const { return values_.data() + row * features_; }
  const float* FloatRow(int64_t row) const {
    return reinterpret_cast<const float*>(values_.data()) + row * features_;
  }
  // Bytes held by values, labels and groups.
  int64_t memory_bytes() const;

 private:
  friend class DatasetBuilder;
  Dataset() = default;

  std::string name_;
  std::string format_;
  GrowingBuffer values_;
  std::vector<int32_t> labels_;
  std::vector<float> targets_;
  int64_t num_targets_ = 0;
  std::vector<int64_t> groups_;
  std::vector<std::string> class_names_;
  int64_t train_rows_ = 0;
  int64_t features_ = 0;
  int32_t num_classes_ = 0;
  bool is_bytes_ = true;
};

// Labels are at most this − 1: an output layer with more units than this is a mistaken label
// column.
inline constexpr int64_t kMaxClasses = 1'000'000;

// Error (DATASET_INVALID) unless a network with `inputs` and `outputs` units can train on this
// data: the message names the first row whose label is out of range. Of numbers to be learned there
// must be as many as outputs.
absl::Status CheckFits(const Dataset& dataset, int64_t inputs, int64_t outputs);

// Collects rows while files are read. Errors: DATASET_TOO_LARGE beyond the memory of the options;
// OUT_OF_MEMORY. Values stay bytes until a row does not fit; then all that was read is widened to
// float32 in place.
class DatasetBuilder {
 public:
  // Without `keep_values` rows are counted and checked but not stored.
  explicit DatasetBuilder(const LoadOptions& options = {}, bool keep_values = true)
      : options_(options), keep_values_(keep_values) {}

  // Declares (first call) or checks (later calls) the number of features of `file`'s rows.
  absl::Status SetFeatures(int64_t features, std::string_view file);
  // Room for `rows` rows that the caller fills; AppendByteRows only while is_bytes().
  absl::StatusOr<uint8_t*> AppendByteRows(int64_t rows);
  absl::StatusOr<float*> AppendFloatRows(int64_t rows);
  // One row of finite values: stored as bytes while every value so far is an integer in 0..255.
  absl::Status AppendRow(std::span<const float> values);
  void AppendLabel(int32_t label) { dataset_.labels_.push_back(label); }
  // Rows have so many numbers to be learned, beside a label of 0.
  void SetTargets(int64_t count) { dataset_.num_targets_ = count; }
  void AppendTargets(std::span<const float> targets) {
    if (keep_values_) {
      dataset_.targets_.insert(dataset_.targets_.end(), targets.begin(), targets.end());
    }
  }

  // All rows so far are training rows.
  void EndTraining() { dataset_.train_rows_ = rows_; }
  // labels[i] = classes[labels[i]], for readers that number words as they meet them.
  void MapLabels(std::span<const int32_t> classes, std::vector<std::string> class_names);
  void SetGroups(std::vector<int64_t> groups) { dataset_.groups_ = std::move(groups); }

  bool is_bytes() const { return dataset_.is_bytes_; }
  int64_t features() const { return dataset_.features_; }
  int64_t rows() const { return rows_; }
  int64_t train_rows() const { return dataset_.train_rows_; }
  int64_t num_targets() const { return dataset_.num_targets_; }
  int32_t num_classes() const;

  // The finished data set, with at least `min_classes` classes; the builder is spent. Every row
  // must have its label, and keep_values must have been set.
  Dataset Finish(std::string name, std::string format, int32_t min_classes);

 private:
  absl::StatusOr<uint8_t*> AppendRaw(int64_t rows, int64_t value_bytes);
  absl::Status WidenToFloat();
  // Whether there may be `more` bytes of values.
  absl::Status CheckMemory(size_t more) const;

  LoadOptions options_;
  std::string file_;  // last declared, for messages
  Dataset dataset_;
  int64_t rows_ = 0;
  bool keep_values_;
};

}  // namespace espalier::worker::data
