// StateWriter and StateReader: a program's state as bytes, long arrays of which may lie in parts
// (pretrained/part_store.h). A part is named by its contents, so that an array which has not changed
// since the last step is not written again.
//
// Errors:    the first one is kept in status(); what is written or read after it means nothing.
// Threading: not thread-safe.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/io/byte_codec.h"
#include "server/pretrained/part_store.h"

namespace espalier::server::methods {

class StateWriter : public io::ByteWriter {
 public:
  // Arrays of so many bytes and more go into parts.
  static constexpr size_t kLongBytes = 64 * 1024;

  // Appends to `out`. `parts`: null = everything goes into `out`. Both are borrowed.
  StateWriter(std::string& out, pretrained::PartStore* parts)
      : io::ByteWriter(out), parts_(parts) {}

  template <typename T>
  void PutLong(std::span<const T> values) {
    if (parts_ == nullptr || values.size_bytes() < kLongBytes) {
      Put<uint8_t>(0);
      PutArray(values);
      return;
    }
    auto part = parts_->Put({reinterpret_cast<const char*>(values.data()), values.size_bytes()});
    if (!part.ok()) {
      if (status_.ok()) status_ = part.status();
      return;
    }
    Put<uint8_t>(1);
    PutPart(*part);
  }
  // A part that is named in these bytes.
  void PutPart(const pretrained::Part& part) {
    PutString(part.digest);
    used_.push_back(part);
  }

  const absl::Status& status() const { return status_; }
  // Whoever holds these can read the bytes.
  std::vector<pretrained::Part> TakeParts() { return std::move(used_); }

 private:
  pretrained::PartStore* const parts_;
  absl::Status status_;
  std::vector<pretrained::Part> used_;
};

class StateReader : public io::ByteReader {
 public:
  // `parts`: null where the bytes have none.
  StateReader(std::string_view bytes, const pretrained::PartStore* parts)
      : io::ByteReader(bytes), parts_(parts) {}

  template <typename T>
  std::vector<T> GetLong() {
    if (Get<uint8_t>() == 0) return GetArray<T>();
    const pretrained::Part part = GetPart();
    if (!ok()) return {};
    std::vector<T> values(part.bytes().size() / sizeof(T));
    if (!values.empty()) std::memcpy(values.data(), part.bytes().data(), values.size() * sizeof(T));
    return values;
  }
  // Check ok() before it is used.
  pretrained::Part GetPart() {
    const std::string digest = GetString();
    // Bytes that name a part where there are none are not what was written.
    broken_ = broken_ || parts_ == nullptr;
    if (!ok()) return {};
    absl::StatusOr<pretrained::Part> part = parts_->Find(digest);
    if (!part.ok()) {
      status_ = part.status();
      return {};
    }
    used_.push_back(*part);
    return *std::move(part);
  }

  bool ok() const { return !broken_ && status_.ok() && io::ByteReader::ok(); }
  // OK also where bytes are missing.
  const absl::Status& status() const { return status_; }
  std::vector<pretrained::Part> TakeParts() { return std::move(used_); }

 private:
  const pretrained::PartStore* const parts_;
  bool broken_ = false;
  absl::Status status_;
  std::vector<pretrained::Part> used_;
};

}  // namespace espalier::server::methods
