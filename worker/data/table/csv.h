// CsvReader: labelled examples in tables, as one job sees them. Internal to worker/data; use
// load.h.
//
// Names:       columns are matched by the names in the header: those of the test file to those of
//              the training file, and both to those that the sites agreed on
//              (DataSpec.agreement.columns). Files without header are matched by place.
// Header:      as data.header says. Otherwise the first two lines tell; see csv_header.h.
// Targets:     target_columns.h says which columns are learned. In place of labels of classes rows
//              may have numbers.
// Labels:      all whole numbers from 0, or all words; words are numbered by
//              DataSpec.agreement.classes, or without in the order of their bytes.
// Missing:     IsMissing() of cells.h; of labels "none" and "null" are words.
// Memory:      of a column kBytesPerColumn and its words; counted against the stream's options.
// Errors:      DATASET_INVALID names file, line, column, what was expected and found, and which
//              option of a job helps. DATA_SPEC_INVALID for options that need an agreement when
//              there is none. DATASET_TOO_LARGE.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/byte_stream.h"
#include "worker/data/dataset.h"
#include "worker/data/table/numbering.h"
#include "worker/data/table/row_encoder.h"
#include "worker/data/table/target_columns.h"

namespace espalier::worker::data {

class CsvReader {
 public:
  // Different words of one column that becomes features.
  static constexpr size_t kMaxWords = 1000;

  enum class Purpose {
    kLoad,      // rows of features for the builder
    kDescribe,  // what there is: words are counted, and only the number of rows goes to the builder
  };

  // Borrows both. A builder of kDescribe keeps no values.
  CsvReader(const v1::DataSpec& spec, Purpose purpose, DatasetBuilder& builder);

  // The training file first, then the test file, if there is one.
  absl::Status ReadFile(ByteStream& stream);
  // Turns the labels met into classes; call once, after the last file.
  absl::Status FinishLabels();
  // Columns, classes and how the file was read. After FinishLabels().
  void Describe(v1::DatasetInfo& info) const;

 private:
  using Cells = RowEncoder::Cells;

  // Where a label was first met.
  struct Origin {
    std::string file;
    int64_t line = 0;
  };
  // kDescribe: what a column of features holds.
  struct Counts {
    double sum = 0;  // of training cells that are numbers
    int64_t values = 0;
    int64_t missing = 0;
    std::unique_ptr<std::set<std::string, std::less<>>> met;  // with one_hot: all cells
    bool has_words = false;                                   // among `met`
  };
  struct Place {
    const std::string& file;
    int64_t line;
  };

  absl::StatusOr<bool> HasHeader(const std::string& file, const Cells& first,
                                 const Cells* second) const;
  absl::Status Begin(ByteStream& stream, const Cells& first, bool header);
  absl::Status BeginTraining(ByteStream& stream, const Cells& first, bool header);
  absl::Status BeginTest(const std::string& file, const Cells& first, bool header);
  absl::Status MatchNames(const std::string& file, const std::vector<std::string>& names);
  absl::Status TakeAgreement(const std::string& file, bool header);
  absl::Status Take(const Place& place, const Cells& cells);
  // kDescribe: of a row that is kept.
  absl::Status CountRow(const Place& place, const Cells& cells);
  absl::StatusOr<bool> TakeTargets(const Place& place, const Cells& cells, bool gap);
  absl::Status AddLabel(const Place& place, std::string_view text);
  absl::Status NumberLabels(const std::vector<std::string>& labels,
                            std::vector<int32_t>& classes) const;
  std::string LabelAt(int64_t line) const;

  const v1::DataSpec& spec_;
  const Purpose purpose_;
  DatasetBuilder& builder_;
  bool begun_ = false;
  bool has_header_ = false;
  char delimiter_ = '\0';
  TargetColumns targets_;       // columns of labels, or of what else is learned
  RowEncoder encoder_;          // of the columns of features
  std::vector<Counts> counts_;  // by column
  std::vector<float> row_;
  std::vector<float> target_row_;
  bool training_ = true;
  Numbering labels_;
  std::vector<Origin> origins_;  // by label
  std::vector<std::string> class_names_;
};

}  // namespace espalier::worker::data
