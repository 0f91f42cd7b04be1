// Loading data sets by name from a worker's data root.
//
// Formats are recognised by the names of the files in the data set's folder (each may end in .gz):
//   idx      train-images-idx3-ubyte + train-labels-idx1-ubyte,
//            optionally t10k-images-idx3-ubyte + t10k-labels-idx1-ubyte
//   cifar10  data_batch_1.bin … data_batch_5.bin + optional test_batch.bin,
//            or cifar10-mini-train.bin + optional cifar10-mini-test.bin
//   npy      train_features.npy + train_labels.npy, optionally test_features.npy + test_labels.npy
//   csv      train.csv + optional test.csv, or one single *.csv
//   images   train/CLASS/*.png or *.jpg, optionally test/CLASS/*, or CLASS/*; see images/folder.h
//   text     see text.h; read as such when the spec has `text`
//
// Errors:      NotFound DATASET_NOT_FOUND, FailedPrecondition DATASET_INVALID, InvalidArgument
//              PATH_OUTSIDE_DATA_ROOT or DATA_SPEC_INVALID, ResourceExhausted DATASET_TOO_LARGE or
//              OUT_OF_MEMORY, Cancelled. Messages never contain the root.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/base/mutex.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/dataset.h"
#include "worker/data/load_options.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

// Reads all examples of spec.dataset (and the groups file when spec.partition is by groups). Limits
// and test_fraction are applied by partition.h, so they do not matter here.
absl::StatusOr<std::shared_ptr<const Dataset>> LoadDataset(const DataRoot& root,
                                                           const v1::DataSpec& spec,
                                                           const LoadOptions& options = {});
absl::StatusOr<std::shared_ptr<const Dataset>> LoadDataset(const std::string& root,
                                                           const v1::DataSpec& spec,
                                                           const LoadOptions& options = {});

// What a data set is in the view of one job. Of `view` all that changes how files are read counts:
// format, label column, delimiter, header, missing, words, image_size, text, interactions and
// whether the partition is LOCAL. Reads all files twice: for what they hold, and for their digest.
// A file of more than 256 MiB after decompression is not read for that: then name and format are
// all that is said. A data set of another kind than the view asks for (text, interactions,
// examples) is described as what it is, without a digest.
absl::StatusOr<v1::DatasetInfo> DescribeDataset(const DataRoot& root, const v1::DataSpec& view,
                                                const LoadOptions& whole);

// What the folder `name` looks like to somebody who has no job yet, by the names of its files and
// what is in them: as ScanDataRoot() describes it, but with all names, and of files of up to 256
// MiB after decompression. Beyond that, name and format are all that is said.
absl::StatusOr<v1::DatasetInfo> DescribeByLooks(const DataRoot& root, const std::string& name,
                                                const LoadOptions& whole);

// What is under `root`, from headers where the format has them. Files without are counted as long
// as they give at most 64 MiB each, and 1 GiB together, after decompression; data sets beyond that
// are described by name and format only. Data sets that cannot be described have their `problem`
// set, which is also appended to `problems`; so are things in the root that are meant as data and
// are no data sets (DataRoot::Strays()). Of `options` only `cancelled` matters; then what was
// found so far is returned.
std::vector<v1::DatasetInfo> ScanDataRoot(const std::string& root,
                                          std::vector<std::string>& problems,
                                          const LoadOptions& options = {});

// The most recently used data sets of one root. Files that changed on disk are read again.
// Threading:   thread-safe; one load at a time, so that no two tasks read the same files.
class DatasetCache {
 public:
  // Keeps at most `capacity` (≥ 1) data sets alive; those in use elsewhere live on with their
  // users.
  explicit DatasetCache(std::string root, size_t capacity = 2, LoadOptions options = {});

  absl::StatusOr<std::shared_ptr<const Dataset>> Get(const v1::DataSpec& spec);
  void Clear();

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<const Dataset> dataset;
  };

  std::string root_;
  size_t capacity_;
  LoadOptions options_;
  base::Mutex mutex_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // most recently used first
};

}  // namespace espalier::worker::data
