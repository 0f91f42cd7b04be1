// Bits in a byte string, least significant first. Internal to common/wire.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace espalier::wire {

static_assert(std::endian::native == std::endian::little,
              "wire formats are copied to and from memory as they are");

class BitWriter {
 public:
  explicit BitWriter(uint64_t expected_bits) { bytes_.reserve((expected_bits + 7) / 8 + 8); }

  // The low `count` bits of `value`, whose other bits are zero; count ≤ 56.
  void Put(uint64_t value, int count) {
    buffer_ |= value << used_;
    used_ += count;
    while (used_ >= 8) {
      bytes_.push_back(static_cast<char>(buffer_ & 255));
      buffer_ >>= 8;
      used_ -= 8;
    }
  }
  // `zeros` zero bits and a one.
  void PutUnary(uint64_t zeros) {
    for (; zeros >= 48; zeros -= 48) {
      Put(0, 48);
    }
    Put(uint64_t{1} << zeros, static_cast<int>(zeros) + 1);
  }
  // All bytes, the last one filled up with zeros.
  std::string Take() {
    if (used_ > 0) {
      bytes_.push_back(static_cast<char>(buffer_ & 255));
      buffer_ = 0;
      used_ = 0;
    }
    return std::move(bytes_);
  }

 private:
  std::string bytes_;
  uint64_t buffer_ = 0;
  int used_ = 0;
};

class BitReader {
 public:
  explicit BitReader(std::string_view bytes) : bytes_(bytes) {}

  uint64_t remaining() const { return 8 * bytes_.size() - position_; }

  // The next `count` ≤ 56 bits. False when there are fewer left.
  bool Get(int count, uint64_t* value) {
    if (remaining() < static_cast<uint64_t>(count)) {
      return false;
    }
    *value = Peek() & ((uint64_t{1} << count) - 1);
    position_ += static_cast<uint64_t>(count);
    return true;
  }
  // The number of zero bits before the next one, which is consumed. False when there is no one.
  bool GetUnary(uint64_t* zeros) {
    uint64_t total = 0;
    while (remaining() > 0) {
      const uint64_t window = Peek();
      if (window != 0) {
        const int run = std::countr_zero(window);
        position_ += static_cast<uint64_t>(run) + 1;
        *zeros = total + static_cast<uint64_t>(run);
        return true;
      }
      const uint64_t step = remaining() < 57 ? remaining() : 57;
      total += step;
      position_ += step;
    }
    return false;
  }
  // Whether less than a byte is left and all of it is zero.
  bool AtEnd() const { return remaining() < 8 && (remaining() == 0 || Peek() == 0); }

 private:
  // At least 57 bits from the current position; zeros beyond the end.
  uint64_t Peek() const {
    const size_t byte = position_ / 8;
    uint64_t word = 0;
    if (byte + 8 <= bytes_.size()) {
      std::memcpy(&word, bytes_.data() + byte, 8);
    } else if (byte < bytes_.size()) {
      std::memcpy(&word, bytes_.data() + byte, bytes_.size() - byte);
    }
    return word >> (position_ % 8);
  }

  std::string_view bytes_;
  uint64_t position_ = 0;
};

}  // namespace espalier::wire
