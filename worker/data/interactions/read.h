// Readers of interaction files. Internal to this folder; use interactions.h.
//
// Errors:      all are DATASET_INVALID and name file, line, what was expected, found and the fix.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/byte_stream.h"
#include "worker/data/interactions/columns.h"
#include "worker/data/interactions/lines.h"
#include "worker/data/interactions/times.h"
#include "worker/data/table/numbering.h"

namespace espalier::worker::data {

// Interactions as they come, users and items numbered as they are met.
struct RawInteractions {
  struct Entry {
    int32_t user = 0;
    int32_t item = 0;
  };
  std::vector<Entry> train;
  std::vector<Entry> test;  // of a test file
  std::vector<std::string> users;
  std::vector<std::string> items;
};

// Which files a folder of interactions consists of.
struct InteractionFiles {
  v1::Interactions::Format format = v1::Interactions::FORMAT_UNSPECIFIED;
  std::string train;
  std::string test;  // may be empty
};

const char* InteractionFormatName(v1::Interactions::Format format);

// By the names of `files`, of the asked format unless that is UNSPECIFIED. Of several tables the
// one called "ratings" or "interactions" counts. Only a job that says so has CSV in .txt files.
// Errors: DATASET_INVALID when there are none, or several.
absl::StatusOr<InteractionFiles> FindInteractionFiles(const std::string& dataset,
                                                      const std::vector<FileEntry>& files,
                                                      v1::Interactions::Format format);

class InteractionReader {
 public:
  // `view` says how files are read: min_rating, order_by_time, delimiter and header.
  InteractionReader(v1::Interactions::Format format, const v1::DataSpec& view);

  // Appends what the file holds to `out`, in the order of the file. Files are read in the order of
  // RawInteractions: a second one without a header has the columns of the first.
  // Errors: also DATASET_TOO_LARGE and Cancelled, by the stream's options.
  absl::Status Read(ByteStream& stream, std::vector<RawInteractions::Entry>& out);
  // What was left out so far.
  int64_t low_ratings() const { return low_ratings_; }
  // After the last file: puts raw.train into the order of time where that was asked, those of one
  // time as they came, and hands out the ids. Errors: DATASET_INVALID, naming `file`, when many
  // interactions all have the same time; Cancelled.
  absl::Status Finish(const std::string& file, const LoadOptions& options, RawInteractions& raw);

 private:
  using Entries = std::vector<RawInteractions::Entry>;

  absl::Status ReadLightGcn(ByteStream& stream, Entries& out);
  absl::Status ReadLightGcnLine(const std::string& file, int64_t line_number, std::string_view line,
                                char separator, Entries& out);
  absl::Status ReadTable(ByteStream& stream, Entries& out);
  // Sets columns_ by the first line. False when the line is no interaction, or may be none: then
  // unclear_ is set.
  absl::StatusOr<bool> TakeFirstLine(const std::string& file, const TableLines& lines);
  absl::StatusOr<FirstLine> KindOfFirstLine(const std::string& file, const TableLines& lines);
  // Refuses what the job asks of columns that are not there.
  absl::Status CheckColumns(const std::string& file) const;
  // `known`: columns_ are those of the first line.
  absl::Status CheckCount(const std::string& file, const TableLines& lines, bool known) const;
  absl::Status TakeLine(const std::string& file, const TableLines& lines, Entries& out);
  absl::Status TakeTime(const std::string& file, const TableLines& lines);
  // Whether the rating is high enough.
  absl::StatusOr<bool> TakeRating(const std::string& file, const TableLines& lines) const;
  // Once all lines are known: an unclear first line is a header, or the first entry of the file.
  absl::Status DecideOnFirstLine(const std::string& file, size_t before, Entries& out);
  absl::Status SortByTime(const std::string& file, const LoadOptions& options, Entries& entries);
  // What all files so far and their preparation take, `entries` of this file.
  int64_t MemoryBytes(size_t entries) const;

  // The first line of the file that is read, while it may be a header.
  struct Unclear {
    int64_t line = 0;
    std::string user;
    std::string item;
    std::vector<std::string> names;
    UnclearHeader header;
  };

  v1::Interactions::Format format_;
  double min_rating_;
  bool order_by_time_;
  char delimiter_;
  v1::DataSpec::Header header_;
  int64_t low_ratings_ = 0;
  size_t earlier_entries_ = 0;  // of the files before this one
  std::vector<Time> times_;     // of all entries; only when they decide on the order
  std::string first_time_;      // as the file has it
  std::optional<bool> dates_;   // whether times are dates; not known before the first
  Numbering users_;
  Numbering items_;
  Columns columns_;  // of this file, or, as long as that is not known, of the one before
  std::optional<Unclear> unclear_;
};

}  // namespace espalier::worker::data
