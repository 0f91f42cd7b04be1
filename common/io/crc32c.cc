#include "common/io/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace espalier::io {
namespace {

using Tables = std::array<std::array<uint32_t, 256>, 8>;

// tables[k][b]: the register after byte b and k zero bytes, so that eight bytes need eight
// look-ups.
constexpr Tables MakeTables() {
  Tables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t value = byte;
    for (int bit = 0; bit < 8; ++bit) {
      value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78u : 0u);
    }
    tables[0][byte] = value;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (uint32_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 255];
    }
  }
  return tables;
}
constexpr Tables kTables = MakeTables();

uint64_t Load64(const char* p) {
  uint64_t word;
  std::memcpy(&word, p, sizeof word);
  return word;
}

// The functions below work on the bare register, without the inversion before and after.
uint32_t PortableRegister(uint32_t state, const char* p, size_t size) {
  for (; size >= 8; size -= 8, p += 8) {
    const uint64_t word = Load64(p) ^ state;
    state = 0;
    for (int k = 0; k < 8; ++k) {
      state ^= kTables[7 - k][(word >> (8 * k)) & 255];
    }
  }
  for (; size > 0; --size, ++p) {
    state = (state >> 8) ^ kTables[0][(state ^ static_cast<unsigned char>(*p)) & 255];
  }
  return state;
}

#if defined(__x86_64__)

// The CRC instruction has a latency of three cycles and a throughput of one, so three lanes of this
// many bytes are computed side by side and then joined.
constexpr size_t kLaneBytes = 2048;

// The effect of kLaneBytes zero bytes on the register: linear over bits, hence four tables of
// bytes.
struct LaneShift {
  std::array<std::array<uint32_t, 256>, 4> table{};

  LaneShift() {
    const std::array<char, kLaneBytes> zeros{};
    for (int byte = 0; byte < 4; ++byte) {
      for (uint32_t bit = 0; bit < 8; ++bit) {
        const uint32_t image = PortableRegister(1u << (8 * byte + bit), zeros.data(), zeros.size());
        for (uint32_t value = 0; value < 256; ++value) {
          if ((value >> bit) & 1) {
            table[byte][value] ^= image;
          }
        }
      }
    }
  }

  uint32_t operator()(uint32_t state) const {
    return table[0][state & 255] ^ table[1][(state >> 8) & 255] ^ table[2][(state >> 16) & 255] ^
           table[3][state >> 24];
  }
};

__attribute__((target("sse4.2"))) uint32_t HardwareRegister(uint32_t state, const char* p,
                                                            size_t size) {
  static const LaneShift shift;
  uint64_t first = state;
  for (; size >= 3 * kLaneBytes; size -= 3 * kLaneBytes, p += 3 * kLaneBytes) {
    uint64_t second = 0;
    uint64_t third = 0;
    for (size_t i = 0; i < kLaneBytes; i += 8) {
      first = _mm_crc32_u64(first, Load64(p + i));
      second = _mm_crc32_u64(second, Load64(p + kLaneBytes + i));
      third = _mm_crc32_u64(third, Load64(p + 2 * kLaneBytes + i));
    }
    first = shift(shift(static_cast<uint32_t>(first)) ^ static_cast<uint32_t>(second)) ^
            static_cast<uint32_t>(third);
  }
  for (; size >= 8; size -= 8, p += 8) {
    first = _mm_crc32_u64(first, Load64(p));
  }
  state = static_cast<uint32_t>(first);
  for (; size > 0; --size, ++p) {
    state = _mm_crc32_u8(state, static_cast<unsigned char>(*p));
  }
  return state;
}

#endif

}  // namespace

uint32_t ExtendCrc32cPortable(uint32_t crc, std::string_view bytes) {
  return ~PortableRegister(~crc, bytes.data(), bytes.size());
}

uint32_t ExtendCrc32c(uint32_t crc, std::string_view bytes) {
#if defined(__x86_64__)
  static const bool has_instruction = __builtin_cpu_supports("sse4.2") != 0;
  if (has_instruction) {
    return ~HardwareRegister(~crc, bytes.data(), bytes.size());
  }
#endif
  return ExtendCrc32cPortable(crc, bytes);
}

uint32_t Crc32c(std::string_view bytes) { return ExtendCrc32c(0, bytes); }

}  // namespace espalier::io
