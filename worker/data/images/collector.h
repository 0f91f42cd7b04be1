// ImageCollector: brings images to the size of a job and adds them to a data set, each as one
// example, channel by channel and row by row. Internal to worker/data.
//
// Memory:      the values; beside them one image.
// Threading:   not thread-safe.
// Errors:      those of DecodeImage(); DATASET_INVALID for an image of another shape than the first
//              one's; DATA_SPEC_INVALID.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/dataset.h"
#include "worker/data/images/image.h"
#include "worker/data/load_options.h"

namespace espalier::worker::data {

class ImageCollector {
 public:
  // Borrows `spec`; `listing_bytes` of memory are taken already.
  ImageCollector(const v1::DataSpec& spec, const LoadOptions& options, int64_t listing_bytes)
      : spec_(spec), options_(options), listing_bytes_(listing_bytes), builder_(options) {}

  // Bytes of memory that are taken so far.
  int64_t held() const { return listing_bytes_ + builder_.rows() * builder_.features(); }
  DatasetBuilder& builder() { return builder_; }

  absl::Status Add(const EncodedImage& file, int32_t label);

 private:
  absl::StatusOr<Image> Fitted(Image image, const std::string& name, int64_t taken) const;
  absl::Status CheckAlike(const ImageDims& dims, const std::string& name);

  const v1::DataSpec& spec_;
  LoadOptions options_;
  int64_t listing_bytes_;
  DatasetBuilder builder_;
  ImageDims dims_;
  std::string first_;
};

}  // namespace espalier::worker::data
