#include "server/store/seal.h"

#include <cstdint>
#include <cstring>

#include "common/io/crc32c.h"

namespace espalier::server::store {
namespace {

uint32_t Checksum(std::string_view bytes, std::string_view of_row) {
  return io::Crc32c(std::string(of_row) + std::string(bytes));
}

}  // namespace

std::string Seal(std::string_view bytes, std::string_view of_row) {
  std::string sealed(bytes);
  const uint32_t crc = Checksum(bytes, of_row);
  sealed.append(reinterpret_cast<const char*>(&crc), sizeof(crc));
  return sealed;
}

std::optional<std::string> Unseal(std::string_view sealed, std::string_view of_row) {
  uint32_t crc = 0;
  if (sealed.size() < sizeof(crc)) return std::nullopt;
  std::memcpy(&crc, sealed.data() + sealed.size() - sizeof(crc), sizeof(crc));
  sealed.remove_suffix(sizeof(crc));
  if (Checksum(sealed, of_row) != crc) return std::nullopt;
  return std::string(sealed);
}

}  // namespace espalier::server::store
