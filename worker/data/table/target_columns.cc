#include "worker/data/table/target_columns.h"

#include <fmt/format.h>

#include <algorithm>

#include "worker/data/errors.h"
#include "worker/data/table/cells.h"
#include "worker/data/table/csv_header.h"
#include "worker/data/table/row_encoder.h"

namespace espalier::worker::data {
namespace {

// The option that says which columns they are.
const char* OptionOf(const v1::DataSpec& spec) {
  return spec.target_columns().empty() ? "data.label_column" : "data.target_columns";
}

absl::StatusOr<size_t> FindColumn(const v1::DataSpec& spec, const std::string& file,
                                  const std::string& wanted, const std::vector<std::string>& names,
                                  bool header) {
  if (header) {
    const auto named = std::find(names.begin(), names.end(), wanted);
    if (named != names.end()) return static_cast<size_t>(named - names.begin());
  }
  const auto place = ParseNumber<int64_t>(wanted);
  const auto count = static_cast<int64_t>(names.size());
  if (place.has_value() && *place >= -1 && *place < count) {
    return static_cast<size_t>(*place < 0 ? count - 1 : *place);
  }
  const std::string option = OptionOf(spec);
  if (place.has_value()) {
    return DatasetInvalid(file,
                          {"", fmt::format("label column {}, counted from 0", wanted),
                           fmt::format("columns 0 to {}", count - 1),
                           fmt::format("set {} to the label's place, or -1 for the last", option)});
  }
  return DatasetInvalid(
      file, {AtLine(1), fmt::format("a column {} for the labels", Quote(wanted)),
             header ? "the columns " + SomeOf(names) : "no header that names columns",
             header ? fmt::format("set {} to one of them", option)
                    : fmt::format("set {} to the label's place counted from 0, or data.header to "
                                  "present",
                                  option)});
}

}  // namespace

bool HasTargets(const v1::DataSpec& spec) {
  return spec.target() == v1::DataSpec::TARGET_LABELS ||
         spec.target() == v1::DataSpec::TARGET_VALUES;
}

std::vector<std::string> TargetColumns::Wanted(bool header) const {
  const v1::Agreement& agreed = spec_.agreement();
  const std::string& label = spec_.label_column();
  if (spec_.target() == v1::DataSpec::TARGET_INPUT) {
    // The last column is where labels are by default: a default names nothing.
    return label.empty() || label == "-1" ? std::vector<std::string>() : std::vector{label};
  }
  if (HasTargets(spec_)) {
    const auto& columns = header && !agreed.target_columns().empty() ? agreed.target_columns()
                                                                     : spec_.target_columns();
    if (!columns.empty()) return {columns.begin(), columns.end()};
  } else if (header && !agreed.label_column().empty()) {
    return {agreed.label_column()};
  }
  return {label.empty() ? "-1" : label};
}

bool TargetColumns::AskedByName() const {
  const std::vector<std::string> wanted = Wanted(/*header=*/false);
  return std::any_of(wanted.begin(), wanted.end(), [](const std::string& column) {
    return !ParseNumber<int64_t>(column).has_value();
  });
}

absl::Status TargetColumns::Find(const std::string& file, const std::vector<std::string>& names,
                                 bool header) {
  for (const std::string& wanted : Wanted(header)) {
    const auto place = FindColumn(spec_, file, wanted, names, header);
    if (!place.ok()) return place.status();
    if (Has(*place)) {
      return DatasetInvalid(file, {"", "different columns", fmt::format("{} twice", Quote(wanted)),
                                   "name each column in data.target_columns once"});
    }
    places_.push_back(*place);
    names_.push_back(header ? names[*place] : "");
  }
  training_places_ = places_;
  return absl::OkStatus();
}

absl::Status TargetColumns::FindAgain(const std::string& file,
                                      const std::vector<std::string>& names) {
  for (size_t i = 0; i < names_.size(); ++i) {
    const auto found = std::find(names.begin(), names.end(), names_[i]);
    if (found == names.end()) {
      return DatasetInvalid(
          file, {AtLine(1), fmt::format("a column {}", Quote(names_[i])),
                 "the columns " + SomeOf(names), "give the columns of all files the same names"});
    }
    places_[i] = static_cast<size_t>(found - names.begin());
  }
  return absl::OkStatus();
}

bool TargetColumns::Has(size_t place) const {
  return std::find(places_.begin(), places_.end(), place) != places_.end();
}

bool TargetColumns::HasName(std::string_view name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

absl::Status TargetColumns::Read(const std::string& file, int64_t line,
                                 const std::vector<std::string_view>& cells,
                                 std::vector<float>& targets, bool* gap) const {
  const bool labels = spec_.target() == v1::DataSpec::TARGET_LABELS;
  targets.resize(places_.size());
  for (size_t i = 0; i < places_.size(); ++i) {
    const std::string_view cell = cells[places_[i]];
    const bool number = ParseFeature(cell, &targets[i]);
    if (number && (!labels || targets[i] == 0 || targets[i] == 1)) continue;
    if (!number && IsMissing(cell) && spec_.missing() == v1::DataSpec::MISSING_DROP) {
      *gap = true;
      continue;
    }
    const std::string name = names_[i].empty() ? "" : fmt::format(" ({})", Quote(names_[i]));
    return DatasetInvalid(
        file, {fmt::format("line {}, column {}{}", line, places_[i] + 1, name),
               labels ? "0 or 1, as data.target is labels" : "a number, as data.target is values",
               cell.empty() ? "an empty cell" : Quote(cell),
               "correct the cell, set data.missing to drop if it has no value, or set "
               "data.target_columns to the columns that are to be learned"});
  }
  return absl::OkStatus();
}

}  // namespace espalier::worker::data
