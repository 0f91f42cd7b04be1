#include "worker/data/describe/description_cache.h"

#include <fmt/format.h>

#include <algorithm>
#include <new>

#include "absl/status/statusor.h"
#include "common/base/status.h"
#include "worker/data/load.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {
namespace {

absl::StatusOr<v1::DatasetInfo> Describe(const std::string& root, const v1::DataSpec& view,
                                         const LoadOptions& options) {
  ESPALIER_ASSIGN_OR_RETURN(const DataRoot opened, DataRoot::Open(root));
  return DescribeDataset(opened, view, options);
}

}  // namespace

v1::DatasetInfo DescribeOrExplain(const std::string& root, const v1::DataSpec& view,
                                  const LoadOptions& options) {
  v1::DatasetInfo info;
  try {
    absl::StatusOr<v1::DatasetInfo> described = Describe(root, view, options);
    if (described.ok()) return *std::move(described);
    info.set_problem(base::MessageOf(described.status()));
  } catch (const std::bad_alloc&) {
    info.set_problem("the worker has not enough memory to read this data set");
  }
  info.set_name(view.dataset());
  return info;
}

std::string DescriptionCache::KeyOf(const v1::DataSpec& view) const {
  const absl::StatusOr<DataRoot> root = DataRoot::Open(root_);
  if (!root.ok()) return "";
  const auto files = root->Files(view.dataset());
  if (!files.ok()) return "";
  std::string key = view.SerializeAsString();
  for (const FileEntry& file : *files) {
    key += fmt::format("\n{} {} {}", file.name, file.bytes, file.modified_ns);
  }
  return key;
}

v1::DatasetInfo DescriptionCache::Get(const v1::DataSpec& view) {
  const base::MutexLock lock(mutex_);
  const std::string key = KeyOf(view);
  const auto known = std::find_if(entries_.begin(), entries_.end(),
                                  [&](const Entry& entry) { return entry.key == key; });
  if (!key.empty() && known != entries_.end()) {
    entries_.splice(entries_.begin(), entries_, known);
    return entries_.front().info;
  }
  v1::DatasetInfo info = DescribeOrExplain(root_, view, options_);
  if (key.empty() || options_.is_cancelled()) return info;
  entries_.push_front({key, info});
  if (entries_.size() > kMostKept) entries_.pop_back();
  return info;
}

}  // namespace espalier::worker::data
