#include "worker/data/describe/held_out.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <memory>
#include <vector>

#include "common/base/status.h"
#include "worker/data/dataset.h"
#include "worker/data/load.h"

namespace espalier::worker::data {
namespace {

// `view` with what a single site agrees on with itself, which loading needs for missing values and
// words.
v1::DataSpec WithAgreement(v1::DataSpec view, const v1::DatasetInfo& info) {
  v1::Agreement& agreement = *view.mutable_agreement();
  for (const v1::DatasetInfo::Column& column : info.columns()) {
    v1::Agreement::Column& agreed = *agreement.add_columns();
    agreed.set_name(column.name());
    *agreed.mutable_words() = column.words();
    if (column.values() > 0) agreed.set_mean(column.sum() / static_cast<double>(column.values()));
  }
  *agreement.mutable_classes() = info.class_names();
  if (info.header()) agreement.set_label_column(info.label_column());
  return view;
}

}  // namespace

double ShiftOfLast(std::span<const int32_t> labels, int32_t num_classes, double share) {
  const auto last = static_cast<size_t>(std::llround(share * static_cast<double>(labels.size())));
  if (last == 0 || last > labels.size()) return 0;
  std::vector<int64_t> all(static_cast<size_t>(num_classes));
  std::vector<int64_t> end(static_cast<size_t>(num_classes));
  for (size_t i = 0; i < labels.size(); ++i) {
    const auto label = static_cast<size_t>(labels[i]);
    ++all[label];
    if (i >= labels.size() - last) ++end[label];
  }
  double distance = 0;
  for (size_t c = 0; c < all.size(); ++c) {
    distance += std::abs(static_cast<double>(end[c]) / static_cast<double>(last) -
                         static_cast<double>(all[c]) / static_cast<double>(labels.size()));
  }
  return distance / 2;
}

absl::StatusOr<double> ShiftOfHeldOut(const DataRoot& root, const v1::DataSpec& view,
                                      const v1::DatasetInfo& info, double share,
                                      const LoadOptions& options) {
  const bool takes_last = !view.has_text() && !view.has_interactions() && info.features() > 0 &&
                          info.test_examples() == 0 && info.format() != "images";
  if (!takes_last) return 0;
  ESPALIER_ASSIGN_OR_RETURN(const auto dataset,
                            LoadDataset(root, WithAgreement(view, info), options));
  return ShiftOfLast(dataset->labels(), dataset->num_classes(), share);
}

}  // namespace espalier::worker::data
