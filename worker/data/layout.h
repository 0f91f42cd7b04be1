// Which files of a folder make up a data set. Internal to this folder; use load.h.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

enum class Format { kIdx, kCifar10, kNpy, kCsv };

struct Layout {
  Format format = Format::kCsv;
  // IDX and NPY: {values, labels}. CIFAR-10: the batches in order. CSV: one file. `test` may be
  // empty.
  std::vector<std::string> train;
  std::vector<std::string> test;
};

const char* FormatName(Format format);

// Errors:      DATASET_INVALID when files are missing, incomplete or ambiguous.
absl::StatusOr<Layout> DetectLayout(const std::string& dataset,
                                    const std::vector<FileEntry>& files);

}  // namespace espalier::worker::data
