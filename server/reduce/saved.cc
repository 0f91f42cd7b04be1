#include "server/reduce/saved.h"

#include <fmt/core.h>

#include "common/base/status.h"
#include "common/io/byte_codec.h"
#include "common/io/crc32c.h"

namespace espalier::server::reduce {
namespace {

constexpr std::string_view kMagic = "ESPREDUC";
constexpr uint32_t kVersion = 1;

}  // namespace

absl::Status SavedError(std::string_view what) {
  return base::InvalidArgument(
      "SAVED_SUMS_INVALID",
      fmt::format("expected the saved sums of a reducer of this step, found others ({}); repeat "
                  "the step",
                  what));
}

std::string SealSaved(SavedKind kind, std::string_view fields) {
  std::string bytes(kMagic);
  io::ByteWriter writer(bytes);
  writer.Put<uint32_t>(kVersion);
  writer.Put<uint8_t>(static_cast<uint8_t>(kind));
  bytes += fields;
  writer.Put<uint32_t>(io::Crc32c(bytes));
  return bytes;
}

absl::StatusOr<std::string_view> OpenSaved(SavedKind kind, std::string_view saved) {
  constexpr size_t kHead = kMagic.size() + sizeof(uint32_t) + sizeof(uint8_t);
  constexpr size_t kTail = sizeof(uint32_t);
  if (saved.size() < kHead + kTail || !saved.starts_with(kMagic)) return SavedError("form");
  const std::string_view covered = saved.substr(0, saved.size() - kTail);
  if (io::ByteReader(saved.substr(covered.size())).Get<uint32_t>() != io::Crc32c(covered)) {
    return SavedError("checksum");
  }
  io::ByteReader head(covered.substr(kMagic.size()));
  if (head.Get<uint32_t>() != kVersion) return SavedError("version");
  if (head.Get<uint8_t>() != static_cast<uint8_t>(kind)) return SavedError("kind of reducer");
  return covered.substr(kHead);
}

}  // namespace espalier::server::reduce
