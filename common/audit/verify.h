// Whether files of the audit log are as they were written.
//
// What it finds: entries that were changed, removed, put in another order or twice, files that are missing
// between others; and with a head that was noted earlier (Head), entries removed from the end, and a chain
// that was made anew as a whole. The latter cannot be found without one: the chain has no key.
//
// Threading: pure but for reading; files that are being written to may be read meanwhile.
// Limits: memory does not grow with the files; of problems the first kMaxProblems are kept.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "common/audit/entry.h"
#include "common/io/file_system.h"

namespace espalier::audit {

inline constexpr size_t kMaxProblems = 100;

struct Problem {
  std::string file;  // path; "" when it is of no file
  int64_t line = 0;  // from 1; 0 when it is of no line
  uint64_t seq = 0;  // of the entry that was expected there; 0 when there is none
  std::string text;  // "expected …, found …"
};

struct Findings {
  uint64_t entries = 0;  // that are as they were written
  uint64_t first_seq = 0;
  absl::Time first_time;
  absl::Time last_time;
  Head head;
  // The hash that the first entry names as the one before it; FirstPrev() of a whole log.
  std::string first_prev;
  std::vector<Problem> problems;
  uint64_t problems_in_all = 0;
  // What is no fault, such as a line that is not finished: sentences.
  std::vector<std::string> notes;
};

// Called for each entry that is as it was written, in order.
using Visit = std::function<void(const Record&)>;

// The files of the log among `paths`, each of which is a file or a folder of them, in the order of their
// first entries. Errors: InvalidArgument AUDIT_FILE_NAME for a file that the log does not name so;
// NotFound AUDIT_LOG_NOT_FOUND when there is none; those of the file system.
absl::StatusOr<std::vector<std::string>> FilesOf(io::FileSystem& files,
                                                 const std::vector<std::string>& paths);

// `paths`: as FilesOf() gives them. Every head of `heads` has to be in the chain. Errors: those of the
// file system; what is wrong with the log is among the findings.
absl::StatusOr<Findings> Verify(io::FileSystem& files, const std::vector<std::string>& paths,
                                const std::vector<Head>& heads = {}, const Visit& visit = {});

}  // namespace espalier::audit
