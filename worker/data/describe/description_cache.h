// DescriptionCache: what data sets are in the views of jobs, for a coordinator that asks.
//
// Bounds:      keeps kMostKept descriptions, those asked for last.
// Threading:   thread-safe; one data set is read at a time.
// Errors:      none: what goes wrong is the description's `problem`, a whole sentence.
#pragma once

#include <list>
#include <string>

#include "common/base/mutex.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/load_options.h"

namespace espalier::worker::data {

// The description, or one whose `problem` says why there is none.
v1::DatasetInfo DescribeOrExplain(const std::string& root, const v1::DataSpec& view,
                                  const LoadOptions& options);

class DescriptionCache {
 public:
  static constexpr size_t kMostKept = 16;

  DescriptionCache(std::string root, LoadOptions options)
      : root_(std::move(root)), options_(options) {}

  // Reads the files again only when one of them changed since.
  v1::DatasetInfo Get(const v1::DataSpec& view);

 private:
  struct Entry {
    std::string key;
    v1::DatasetInfo info;
  };

  // The view and the state of the files; "" when they cannot be looked at.
  std::string KeyOf(const v1::DataSpec& view) const;

  const std::string root_;
  const LoadOptions options_;
  base::Mutex mutex_;
  std::list<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // most recently used first
};

}  // namespace espalier::worker::data
