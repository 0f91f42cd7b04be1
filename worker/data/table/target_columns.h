// TargetColumns: which columns of a table hold what is to be learned (DataSpec.target), and what
// their cells say. Internal to worker/data.
//
// CLASS:         the column of the labels, whose cells CsvReader numbers.
// LABELS:        target_columns, whose cells are 0 or 1.
// VALUES:        target_columns, whose cells are finite numbers.
// INPUT:         none; a column that label_column names is passed over.
// Threading:     not thread-safe.
// Errors:        DATASET_INVALID names file, line, column, what was expected and found, and the
//                option of a job that helps.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"

namespace espalier::worker::data {

// Whether examples have numbers to be learned in place of a class.
bool HasTargets(const v1::DataSpec& spec);

class TargetColumns {
 public:
  // Borrows the spec.
  explicit TargetColumns(const v1::DataSpec& spec) : spec_(spec) {}

  // In the training file. `names` are "" without header.
  absl::Status Find(const std::string& file, const std::vector<std::string>& names, bool header);
  // In another file: by names, or at the same places.
  absl::Status FindAgain(const std::string& file, const std::vector<std::string>& names);
  void StayInPlace() { places_ = training_places_; }

  // Whether some of them is asked for by a name.
  bool AskedByName() const;
  size_t size() const { return places_.size(); }
  bool Has(size_t place) const;
  bool HasName(std::string_view name) const;
  const std::vector<std::string>& names() const { return names_; }
  size_t place(size_t i) const { return places_[i]; }
  size_t training_place(size_t i) const { return training_places_[i]; }

  // Of LABELS and VALUES: the numbers in a row. Sets `gap` where one is missing and the job leaves
  // such examples out.
  absl::Status Read(const std::string& file, int64_t line,
                    const std::vector<std::string_view>& cells, std::vector<float>& targets,
                    bool* gap) const;

 private:
  std::vector<std::string> Wanted(bool header) const;

  const v1::DataSpec& spec_;
  std::vector<std::string> names_;
  std::vector<size_t> training_places_;
  std::vector<size_t> places_;
};

}  // namespace espalier::worker::data
