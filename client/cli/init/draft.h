// A job file for somebody's own data, and what to tell about it.
//
// Threading:   pure functions but for what `look` does.
// Errors:      FailedPrecondition DATA_UNUSABLE with the reason and the remedy; InvalidArgument
//              USAGE for options that do not fit the data; those of `look`.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "client/cli/init/look.h"
#include "client/cli/init/source.h"

namespace espalier::cli::init {

// What the data are taken for; kFound: what they look like.
enum class Kind { kFound, kTable, kImages, kText, kInteractions };

struct Wishes {
  Kind kind = Kind::kFound;
  std::string label;  // a table's label column, by name or by place; "" = found
  v1::DataSpec::Header header = v1::DataSpec::HEADER_UNSPECIFIED;  // of a table
  std::string method;                                              // "" = chosen
  std::string field;  // JSON lines: the field that holds the text; "" = "text"
  int workers = 4;
  std::string text;  // a model: path of the text that it is pruned with
};

// A line to type, and what it is for.
struct Step {
  std::string command;
  std::string purpose;
};

struct Draft {
  std::string file;  // the job file
  // Whole sentences: what the data are, and what was decided because of them.
  std::vector<std::string> findings;
  std::vector<Step> before;      // before the cluster starts
  std::string up;                // options of `espalier up`
  int64_t rounds = 0;            // of the job
  std::vector<Step> afterwards;  // with the trained model
  v1::DatasetInfo dataset;       // in the view of the job
  std::string data_root;         // that has it
};

// The file for `source`, a data set or a model. `look` looks at the data set; of a model it is not
// used, because its text is a data set of its own.
absl::StatusOr<Draft> MakeDraft(const Source& source, const Wishes& wishes, const Looker& look);

// Of one kind of data. `looks`: what the files look like.
absl::StatusOr<Draft> TableJob(const Source& source, const Wishes& wishes, const Looker& look);
absl::StatusOr<Draft> ArrayJob(const Source& source, const Wishes& wishes, const Look& looks);
absl::StatusOr<Draft> ImageJob(const Source& source, const Wishes& wishes, const Looker& look);
absl::StatusOr<Draft> TextJob(const Source& source, const Wishes& wishes, const Looker& look);
absl::StatusOr<Draft> InteractionsJob(const Source& source, const Wishes& wishes,
                                      const Looker& look);
absl::StatusOr<Draft> ModelJob(const Source& source, const Wishes& wishes);

}  // namespace espalier::cli::init
