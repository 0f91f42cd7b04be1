// Lines: a file of the audit log line by line, of which nothing is held but the line at hand.
//
// Ownership: `file` is borrowed.
// Threading: one thread.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "common/io/file_system.h"

namespace espalier::audit {

class Lines {
 public:
  // From byte `begin` to byte `end` of the file.
  Lines(const io::ReadableFile& file, uint64_t begin, uint64_t end)
      : file_(file), read_(begin), end_(end) {}

  // False at the end. Otherwise line() is what comes before the next newline, and is finished(), or what
  // comes after the last one. A line of more than kMaxLineBytes is given in pieces of that size, the
  // first of which is not finished(). Errors: those of the file.
  absl::StatusOr<bool> Next();
  const std::string& line() const { return line_; }
  bool finished() const { return finished_; }
  // Bytes from where it began to the end of the newest line, its newline included.
  uint64_t taken() const { return taken_; }

 private:
  const io::ReadableFile& file_;
  uint64_t read_;
  const uint64_t end_;
  uint64_t taken_ = 0;
  std::string buffer_;  // what was read and not given yet begins at used_
  size_t used_ = 0;
  std::string line_;
  bool finished_ = false;
};

}  // namespace espalier::audit
