// What the files of a data set hold, found out by espalier-worker, which reads them.
//
// Errors:      those of beside.h. What is wrong with the data is the description's `problem`.
#pragma once

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"

namespace espalier::cli::init {

struct Look {
  v1::DatasetInfo info;
  // How far the classes of the last fifth of the examples are from those of all, 0 to 1, where that
  // fifth would be held out.
  double last_fifth = 0;
};

// What a data set is in the view of a job; null: what it looks like.
using Looker = std::function<absl::StatusOr<Look>(const v1::DataSpec* view)>;

// Looks at the data set in `folder`.
Looker LookAt(const std::string& folder);

}  // namespace espalier::cli::init
