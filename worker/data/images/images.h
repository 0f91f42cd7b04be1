// Images in folders as a data set: every image one example, channel by channel and row by row, as
// model.input_image has them. Which files are read, as which classes and in which order: folder.h.
// What becomes of their pixels: image.h. Internal to worker/data; use load.h.
//
// Sizes:       all images must have the same channels, height and width; with DataSpec.image_size
//              each is scaled and cropped to it (resize.h).
// Classes:     with DataSpec.agreement.classes, a class's place there.
// Memory:      the values; beside them the list of files and one image with its file.
// Errors:      as load.h; each names the file.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/dataset.h"
#include "worker/data/images/folder.h"
#include "worker/data/load_options.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

absl::StatusOr<Dataset> LoadImages(const DataRoot& root, const v1::DataSpec& spec,
                                   const LoadOptions& options);

// Examples, classes and their names (at most `most_names`); the shape too where the first
// kMostHeadsRead images of each part have the same. Nothing is decoded.
inline constexpr int64_t kMostHeadsRead = 1000;
absl::StatusOr<v1::DatasetInfo> DescribeImages(const DataRoot& root, const std::string& dataset,
                                               size_t most_names, const LoadOptions& options);

// SHA-256 of paths and contents of all images in the order of the examples, training before test.
absl::StatusOr<std::string> DigestOfImages(const DataRoot& root, const std::string& dataset,
                                           const LoadOptions& options);

}  // namespace espalier::worker::data
