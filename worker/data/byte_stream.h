// ByteStream: the bytes of a file, decompressed on the way when it is gzip; nothing is kept.
//
// Ownership:   owns the file.
// Memory:      two buffers of 256 KiB, whatever the file's size.
// Threading:   not thread-safe.
// Errors:      DATASET_INVALID for a damaged or truncated gzip file, DATASET_TOO_LARGE when it
//              gives more than the options allow; the error names the file. Cancelled.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/data/load_options.h"
#include "worker/data/sandbox.h"

namespace espalier::worker::data {

class ByteStream {
 public:
  // `name` is used in messages.
  static absl::StatusOr<ByteStream> Open(UniqueFd file, std::string name,
                                         const LoadOptions& options);

  // Reads up to `size` bytes; fewer only at the end of the file.
  absl::StatusOr<size_t> Read(void* out, size_t size);
  // Reads `size` bytes. `what` says what they are, for the message when the file ends before.
  absl::Status ReadExactly(void* out, size_t size, std::string_view what);
  // Reads the `size` bytes of row `row`.
  absl::Status ReadRow(void* out, size_t size, int64_t row);
  // Error unless everything was read. `declared` says what the header promised.
  absl::Status ExpectEnd(std::string_view declared);

  const std::string& name() const { return name_; }
  const LoadOptions& options() const { return options_; }

 private:
  struct Closer {
    void operator()(gzFile file) const { gzclose_r(file); }
  };

  absl::Status CheckLimits(int64_t got);
  absl::Status EndsEarly(size_t wanted, size_t got, std::string_view what) const;

  ByteStream(gzFile file, std::string name, const LoadOptions& options)
      : file_(file), name_(std::move(name)), options_(options) {}

  std::unique_ptr<gzFile_s, Closer> file_;
  std::string name_;
  LoadOptions options_;
  int64_t position_ = 0;
};

// Lines of a text file, without their line ends (LF, CR LF, or CR alone); none longer than 16 MiB.
// Errors: also DATASET_INVALID for text in UTF-16 or UTF-32.
class LineReader {
 public:
  explicit LineReader(ByteStream& stream);

  // The next line, or false at the end. `line` is valid until the next call.
  absl::StatusOr<bool> Next(std::string_view* line);
  // Number of the line last returned, from 1.
  int64_t line_number() const { return line_number_; }

 private:
  absl::Status Fill();

  ByteStream& stream_;
  std::string buffer_;
  size_t begin_ = 0;
  bool at_end_ = false;
  int64_t line_number_ = 0;
};

}  // namespace espalier::worker::data
