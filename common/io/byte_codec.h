// Little-endian bytes of plain values, for what one process writes and another reads.
//
// Errors: a ByteReader that is asked for more than there is returns zeros or nothing and ok() turns
//         false for good; it never allocates more than the bytes that are present.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace espalier::io {

static_assert(std::endian::native == std::endian::little,
              "bytes are written as they lie in memory");

class ByteWriter {
 public:
  // Appends to `out`, which must outlive this.
  explicit ByteWriter(std::string& out) : out_(out) {}

  template <typename T>
  void Put(T value) {
    PutRaw(std::span<const T>(&value, 1));
  }
  // Length (uint64) and elements.
  template <typename T>
  void PutArray(std::span<const T> values) {
    Put<uint64_t>(values.size());
    PutRaw(values);
  }
  void PutString(std::string_view text) { PutArray(std::span<const char>(text)); }

 private:
  template <typename T>
  void PutRaw(std::span<const T> values) {
    static_assert(std::is_trivially_copyable_v<T>);
    out_.append(reinterpret_cast<const char*>(values.data()), values.size_bytes());
  }
  std::string& out_;
};

class ByteReader {
 public:
  explicit ByteReader(std::string_view bytes) : rest_(bytes) {}

  template <typename T>
  T Get() {
    T value{};
    if (!Require(1, sizeof(T))) return value;
    std::memcpy(&value, rest_.data(), sizeof(T));
    rest_.remove_prefix(sizeof(T));
    return value;
  }
  template <typename T>
  std::vector<T> GetArray() {
    const auto count = Get<uint64_t>();
    if (!Require(count, sizeof(T))) return {};
    std::vector<T> values(count);
    if (count > 0) std::memcpy(values.data(), rest_.data(), count * sizeof(T));
    rest_.remove_prefix(count * sizeof(T));
    return values;
  }
  std::string GetString() {
    const auto count = Get<uint64_t>();
    if (!Require(count, 1)) return {};
    std::string text(rest_.substr(0, count));
    rest_.remove_prefix(count);
    return text;
  }
  bool ok() const { return ok_; }
  bool at_end() const { return rest_.empty(); }

 private:
  bool Require(uint64_t count, size_t size) {
    if (count > rest_.size() / size) ok_ = false;
    return ok_;
  }
  std::string_view rest_;
  bool ok_ = true;
};

}  // namespace espalier::io
