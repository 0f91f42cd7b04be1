// ImageFolder: which images of a data set's folders are examples of which class, and in which
// order.
//
// Files:       train/CLASS/*, optionally test/CLASS/* (or, where there is no test, val, validation
//              or valid); or CLASS/* directly in the data set's folder. Images are .png, .jpg and
//              .jpeg in any case. Hidden files, Thumbs.db, desktop.ini and __MACOSX are passed
//              over; so is what stands beside the folders of classes and is no image (README,
//              lists). Anything else beside images is an error that names it, and so are folders in
//              a class's folder and classes without images.
// Classes:     names of the folders, ascending by their bytes; where all are whole numbers below
//              kMaxClasses, labels are these numbers, as in CSV files.
// Order:       within each class by SHA-256 of the file's name; example i of a class of n stands at
//              (2i + 1) / 2n of the whole, so that every stretch holds about the same share of
//              every class; at equal places in the order of classes. It depends on names only.
// Errors:      DATASET_INVALID, DATASET_TOO_LARGE, PATH_OUTSIDE_DATA_ROOT, Cancelled.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "worker/data/load_options.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

struct ImageFile {
  std::string path;   // beneath the data set's folder: "train/cat/1.png"
  int32_t label = 0;  // place in `classes`, or the class's number where there are no names
  int64_t bytes = 0;
  int64_t modified_ns = 0;  // since the epoch
};

struct ImageFolder {
  std::vector<ImageFile> train;
  std::vector<ImageFile> test;
  std::vector<std::string> classes;  // none where all are whole numbers
  int32_t num_classes = 0;           // largest label + 1
};

// Whether a data set's folders look like images by class; false where they cannot be read.
bool HoldsImageFolders(const DataRoot& root, const std::string& dataset,
                       const LoadOptions& options);

absl::StatusOr<ImageFolder> ListImages(const DataRoot& root, const std::string& dataset,
                                       const LoadOptions& options);

// What ListImages() holds in memory.
int64_t ListingBytes(const ImageFolder& folder);

// Differs when a file came, went or changed, as its size and time say; nothing is opened.
absl::StatusOr<std::string> FingerprintOfImages(const DataRoot& root, const std::string& dataset,
                                                const LoadOptions& options);

}  // namespace espalier::worker::data
