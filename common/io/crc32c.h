// CRC-32C (Castagnoli polynomial 0x1EDC6F41, reflected; RFC 3720 appendix B.4). Pure functions.
#pragma once

#include <cstdint>
#include <string_view>

namespace espalier::io {

// Checksum of `bytes`; of "123456789" it is 0xE3069283. Uses SSE 4.2 where the processor has it.
uint32_t Crc32c(std::string_view bytes);

// Checksum of a ++ b, given Crc32c(a) and b. Crc32c(b) == ExtendCrc32c(0, b).
uint32_t ExtendCrc32c(uint32_t crc, std::string_view bytes);

// The same by tables alone: the fallback, and the reference for tests.
uint32_t ExtendCrc32cPortable(uint32_t crc, std::string_view bytes);

}  // namespace espalier::io
