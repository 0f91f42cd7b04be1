// Which files of a folder make up a data set. Internal to this folder; use load.h.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
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

// The files of examples that `format` says, or, where it says nothing, by their names.
// `holds_images`: there are folders of images; they go before tables of another name than
// train.csv, and after every other format's own names. Only a job that says so has tables in .txt
// files.
// Errors: DATASET_INVALID when files are missing, incomplete or ambiguous.
absl::StatusOr<Layout> DetectLayout(const std::string& dataset, const std::vector<FileEntry>& files,
                                    v1::DataSpec::Format format, bool holds_images);

}  // namespace espalier::worker::data
