// The files of a data set as they are read. Internal to worker/data; use load.h.
//
// Errors: as load.h.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/byte_stream.h"
#include "worker/data/dataset.h"
#include "worker/data/layout.h"
#include "worker/data/load_options.h"
#include "worker/data/sandbox.h"
#include "worker/data/table/csv.h"

namespace espalier::worker::data {

// One data set, whose files are opened through the root. Borrows all three.
struct Source {
  const DataRoot& root;
  const std::string& dataset;
  const LoadOptions& options;

  absl::StatusOr<ByteStream> Open(const std::string& file) const;
};

// What the files are: as the job says, or by their names.
absl::StatusOr<Layout> FindLayout(const DataRoot& root, const v1::DataSpec& spec,
                                  const std::vector<FileEntry>& files, const LoadOptions& options);

// Both parts of a data set of any format but images; `csv`, which writes to `builder`, reads tables.
absl::Status ReadAll(const Source& source, const Layout& layout, v1::DataSpec::Target target,
                     CsvReader& csv, DatasetBuilder& builder);

}  // namespace espalier::worker::data
