// Readers of interaction files. Internal to this folder; use interactions.h.
//
// Errors:      all are DATASET_INVALID and name file, line, what was expected, found and the fix.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "espalier/v1/data.pb.h"
#include "worker/data/byte_stream.h"

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

// By the names of `files`, of the asked format unless that is UNSPECIFIED.
// Errors: DATASET_INVALID when there are none, or several.
absl::StatusOr<InteractionFiles> FindInteractionFiles(const std::string& dataset,
                                                      const std::vector<FileEntry>& files,
                                                      v1::Interactions::Format format);

// Numbers names as they are met.
class Numbering {
 public:
  int32_t Of(std::string_view name);
  std::vector<std::string> Take() { return std::move(names_); }
  int32_t size() const { return static_cast<int32_t>(names_.size()); }
  // Memory of the names, about.
  int64_t bytes() const { return bytes_; }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>()(text); }
  };
  std::unordered_map<std::string, int32_t, Hash, std::equal_to<>> numbers_;
  std::vector<std::string> names_;
  int64_t bytes_ = 0;
};

class InteractionReader {
 public:
  // Ratings below `min_rating` are left out, unless it is 0.
  InteractionReader(v1::Interactions::Format format, double min_rating, bool order_by_time)
      : format_(format), min_rating_(min_rating), order_by_time_(order_by_time) {}

  // Appends what the file holds to `out`, in the order of the file or of time.
  // Errors: also DATASET_TOO_LARGE and Cancelled, by the stream's options.
  absl::Status Read(ByteStream& stream, std::vector<RawInteractions::Entry>& out);
  // What was left out so far.
  int64_t low_ratings() const { return low_ratings_; }
  // After the last file.
  void TakeIds(RawInteractions& raw);

 private:
  struct Columns {
    int user = 0;
    int item = 1;
    int rating = 2;  // −1: none
    int time = 3;
    size_t count = 0;  // cells of a line; 0: not known yet
  };

  absl::Status ReadLightGcnLine(const std::string& file, int64_t line_number, std::string_view line,
                                std::vector<RawInteractions::Entry>& out);
  absl::Status ReadTableLine(const std::string& file, int64_t line_number, std::string_view line,
                             std::vector<RawInteractions::Entry>& out);
  // Puts the entries from `first` on into the order of times_. Errors: DATASET_INVALID when many
  // all have the same.
  absl::Status SortByTime(const ByteStream& stream, size_t first,
                          std::vector<RawInteractions::Entry>& out);
  // What all files so far and their preparation take, `entries` of this file.
  int64_t MemoryBytes(size_t entries) const;
  // Whether the first line is a header; then columns_ are those it names.
  absl::StatusOr<bool> TakeHeader(const std::string& file, std::string_view line);
  std::string_view Separator(std::string_view line) const;
  absl::Status WrongSeparator(const std::string& file, int64_t line_number,
                              std::string_view line) const;

  v1::Interactions::Format format_;
  double min_rating_;
  bool order_by_time_;
  int64_t low_ratings_ = 0;
  size_t earlier_entries_ = 0;  // of the files before this one
  std::vector<int64_t> times_;  // of the entries of this file; only when they decide on the order
  Numbering users_;
  Numbering items_;
  std::string_view separator_;
  Columns columns_;
  std::vector<std::string_view> cells_;
};

// Whether the CSV file begins with a header that names a user and an item.
absl::StatusOr<bool> NamesUserAndItem(ByteStream& stream);

}  // namespace espalier::worker::data
