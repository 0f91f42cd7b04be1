// Which files of a folder make up a data set. Internal to this folder; use load.h.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

enum class Format { kIdx, kCifar10, kNpy, kCsv, kImages };

struct Layout {
  Format format = Format::kCsv;
  // IDX and NPY: {values, labels}. CIFAR-10: the batches in order. CSV: one file. `test` may be
  // empty. Images: nothing, see images/folder.h.
  std::vector<std::string> train;
  std::vector<std::string> test;
};

const char* FormatName(Format format);

// `holds_images`: there are folders of images. They go before a CSV file of another name than
// train.csv, and after every other format's own names.
// Errors:      DATASET_INVALID when files are missing, incomplete or ambiguous.
absl::StatusOr<Layout> DetectLayout(const std::string& dataset, const std::vector<FileEntry>& files,
                                    bool holds_images);

// The files of examples in tables, where the job says that they are: train.csv, .tsv or .txt and
// perhaps a test file, or one single file of these kinds. Errors: DATASET_INVALID.
absl::StatusOr<Layout> TableLayout(const std::string& dataset, const std::vector<FileEntry>& files);

}  // namespace espalier::worker::data
