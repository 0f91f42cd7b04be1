// RowEncoder: the cells of one row of a table as the numbers that a model is given. Internal to
// worker/data.
//
// Columns:     of features, in the order of the model's inputs. One of numbers is one input; one
//              of words has an input for each word, 1 for the cell's own and 0 otherwise.
// Missing:     IsMissing() of cells.h; what becomes of it is DataSpec.missing.
// Threading:   not thread-safe.
// Errors:      DATASET_INVALID names file, row, column, what was expected and found, and which
//              option of a job helps.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/table/numbering.h"

namespace espalier::worker::data {

// A finite number that fits into float32.
bool ParseFeature(std::string_view text, float* value);

class RowEncoder {
 public:
  using Cells = std::vector<std::string_view>;
  // What rows are encoded for.
  enum class Purpose {
    kLoad,      // training and evaluation
    kDescribe,  // to find out which words there are: words that nobody knows yet are let through
    kPredict,
  };

  struct Column {
    std::string name;
    double mean = 0;                   // agreed on
    std::unique_ptr<Numbering> words;  // agreed on; null: a column of numbers

    size_t width() const { return words == nullptr ? 1 : static_cast<size_t>(words->size()); }
  };

  // Where a row stands, for messages: "line 7" of a file.
  struct Place {
    std::string_view file;
    int64_t number;
    char delimiter = ',';
    const char* unit = "line";
  };

  // Borrows the spec.
  RowEncoder(const v1::DataSpec& spec, Purpose purpose) : spec_(spec), purpose_(purpose) {}

  const std::vector<Column>& columns() const { return columns_; }
  // Adds a column that nothing was agreed on about.
  void AddColumn(std::string name) { columns_.emplace_back().name = std::move(name); }
  // Column `index` as the sites agreed on; its name only where files have one.
  void SetAgreed(size_t index, const v1::Agreement::Column& agreed, bool named);
  // Inputs of the model.
  size_t features() const;

  // In the files or rows that follow, column i is cell `places[i]`.
  void SetPlaces(std::vector<size_t> places) { places_ = std::move(places); }
  const std::vector<size_t>& places() const { return places_; }

  // Fills features() values. Sets `gap` when a value is missing that the job allows to be missing.
  absl::Status Encode(const Place& place, const Cells& cells, float* values, bool* gap) const;

  // "line 7, column 3 ('age')".
  std::string Where(const Place& place, size_t column) const;

 private:
  absl::Status TakeOther(const Place& place, size_t column, std::string_view cell, float* values,
                         bool* gap) const;
  absl::Status RefuseMissing(const Place& place, size_t column, std::string_view cell) const;

  const v1::DataSpec& spec_;
  const Purpose purpose_;
  std::vector<Column> columns_;
  std::vector<size_t> places_;
};

}  // namespace espalier::worker::data
