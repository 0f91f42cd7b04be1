// CsvReader: labelled examples in tables, as one job sees them. Internal to this folder; use
// load.h.
//
// Names:       columns are matched by the names in the header: those of the test file to those of
//              the training file, and both to those that the sites agreed on
//              (DataSpec.agreement.columns). Files without header are matched by place.
// Header:      as data.header says. Otherwise the first line is one when at least half of the cells
//              that should be numbers are not, or when it has a word for a label and the second
//              line a whole number.
// Labels:      all whole numbers from 0, or all words; words are numbered by
//              DataSpec.agreement.classes, or without in the order of their bytes.
// Missing:     empty cells, NA, N/A, NaN, null, none and ?, in any case of letters.
// Errors:      DATASET_INVALID names file, line, column, what was expected and found, and which
//              option of a job helps. DATA_SPEC_INVALID for options that need an agreement when
//              there is none.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/byte_stream.h"
#include "worker/data/dataset.h"

namespace espalier::worker::data {

class CsvReader {
 public:
  // Different words of one column that becomes features.
  static constexpr size_t kMaxWords = 1000;

  enum class Purpose {
    kLoad,      // rows of features for the builder
    kDescribe,  // what there is: words and missing values are counted, not refused
  };

  // Borrows both. A builder of kDescribe keeps no values.
  CsvReader(const v1::DataSpec& spec, Purpose purpose, DatasetBuilder& builder);

  // The training file first, then the test file, if there is one.
  absl::Status ReadFile(ByteStream& stream);
  // Turns the labels met into classes; call once, after the last file.
  absl::Status FinishLabels();
  // Columns, classes and how the file was read. After FinishLabels().
  absl::Status Describe(v1::DatasetInfo& info) const;

 private:
  using Cells = std::vector<std::string_view>;

  struct Label {
    std::string text;
    std::string file;
    int64_t line = 0;  // where it was first met
  };
  // A column of features in the order of the model's inputs.
  struct Column {
    std::string name;
    double sum = 0;
    int64_t values = 0;
    int64_t missing = 0;
    std::set<std::string, std::less<>> words;  // kDescribe: all different cells, while few
    bool has_words = false;
    std::unordered_map<std::string, int> features;  // kLoad: of the words agreed on
    double mean = 0;
  };
  struct Place {
    const std::string& file;
    int64_t line;
  };

  absl::Status BeginTraining(const std::string& file, const Cells& first, bool header);
  absl::Status BeginTest(const std::string& file, const Cells& first, bool header);
  absl::Status MatchNames(const std::string& file, const std::vector<std::string>& names);
  absl::Status FindLabelColumn(const std::string& file, const std::vector<std::string>& names,
                               bool header);
  absl::Status CheckAgreement(const std::string& file);
  bool LooksLikeHeader(const Cells& cells) const;
  absl::Status Take(const Place& place, const Cells& cells);
  // False: the row is dropped.
  absl::StatusOr<bool> TakeFeature(const Place& place, size_t column, std::string_view cell);
  absl::Status TakeWord(const Place& place, size_t column, std::string_view cell);
  absl::Status AddLabel(const Place& place, std::string_view text);
  absl::Status NumberLabels(std::vector<int32_t>& classes) const;
  std::string Where(int64_t line, size_t column) const;

  const v1::DataSpec& spec_;
  const Purpose purpose_;
  DatasetBuilder& builder_;
  bool begun_ = false;
  bool has_header_ = false;
  char delimiter_ = '\0';
  size_t cell_count_ = 0;
  std::string label_name_;       // "" without header
  size_t label_place_ = 0;       // in the training file
  size_t label_cell_ = 0;        // in the present file
  std::vector<size_t> cell_of_;  // by column of features, in the present file
  std::vector<Column> columns_;
  std::vector<float> row_;
  size_t next_ = 0;  // of row_
  bool training_ = true;
  std::vector<Label> labels_;
  std::unordered_map<std::string, int32_t> label_ids_;
  std::vector<std::string> class_names_;
};

}  // namespace espalier::worker::data
