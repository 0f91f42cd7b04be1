// Examples without labels, for predictions: read from a file or taken from a request, and encoded
// as the data set of the job that trained the model was.
//
// Tables:      columns are matched by the names that the job's sites agreed on, in any order;
//              columns that the model does not know, such as the labels, are passed over. Without
//              agreed names they are in the order of the model's inputs, with or without the column
//              of the labels.
// Values:      raw, as AssembleBatch() takes them.
// Threading:   pure functions.
// Errors:      DATASET_INVALID names file or example, column, what was expected and found;
//              FILE_NOT_FOUND; DATASET_TOO_LARGE; those of the stream and of images.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "espalier/v1/predict.pb.h"
#include "worker/data/byte_stream.h"
#include "worker/data/dataset.h"
#include "worker/data/load_options.h"

namespace espalier::worker::data {

// Most examples of one request.
inline constexpr int kMostExamples = 10'000;

// A file that somebody named: outside of any data root.
absl::StatusOr<ByteStream> OpenStream(const std::string& path, const LoadOptions& options);

// The rows of a table (.csv, .tsv or .txt, also with .gz), of an .npy array of the shape examples ×
// values, the image in a .png, .jpg or .jpeg file, or all of those in a folder by their names.
// `features` is the number of the model's inputs.
struct Unlabelled {
  Dataset dataset;
  std::vector<std::string> names;  // of image files; otherwise none
};
absl::StatusOr<Unlabelled> ReadForPrediction(const std::string& path, const v1::DataSpec& spec,
                                             int64_t features, const LoadOptions& options);

// The examples of a request: values, cells or images.
absl::StatusOr<Dataset> EncodeExamples(const v1::Examples& examples, const v1::DataSpec& spec,
                                       int64_t features, const LoadOptions& options);

}  // namespace espalier::worker::data
