// Checkpoints of networks: header, structure and values. All ways of reading a file agree, and what
// was read can be written and read again.
#include <cstdint>
#include <string>

#include "common/checkpoint/checkpoint_file.h"
#include "common/io/sha256.h"
#include "common/wire/safetensors.h"
#include "tests/fuzz/fuzz_input.h"

namespace {

using espalier::fuzz::Require;
namespace checkpoint = espalier::checkpoint;
namespace io = espalier::io;

// The digest of the data where the header says one, so that the fuzzer need not find it.
std::string WithDigest(std::string bytes) {
  constexpr std::string_view kKey = "\"data_sha256\":\"";
  constexpr size_t kHexDigits = 64;
  const auto header = espalier::wire::DecodeSafetensorsHeader(bytes, bytes.size());
  const size_t key = bytes.find(kKey);
  if (!header.ok() || key == std::string::npos) return bytes;
  const size_t at = key + kKey.size();
  uint64_t header_bytes = 0;
  for (int i = 7; i >= 0; --i)
    header_bytes = header_bytes << 8 | static_cast<unsigned char>(bytes[i]);
  const size_t begin = 8 + header_bytes;
  if (at + kHexDigits > begin) return bytes;
  const std::string digest = io::Sha256Hex(std::string_view(bytes).substr(begin));
  return bytes.replace(at, kHexDigits, digest);
}

void CheckTensors(const checkpoint::CheckpointReader& reader,
                  const espalier::tensor::ModelState& state) {
  for (size_t i = 0; i < reader.layout().size(); ++i) {
    const auto structure = reader.ReadStructure(i);
    Require(structure.ok() && (*structure != nullptr) == reader.is_sparse(i),
            "a tensor has its structure");
    const auto stored = reader.Stored(i);
    Require(stored.ok() && *stored == state.topology->stored(i), "a header counts what is stored");
    int64_t values = 0;
    Require(reader.ReadDense(i,
                             [&](std::span<const float> piece) {
                               values += static_cast<int64_t>(piece.size());
                             })
                    .ok() &&
                values == reader.layout()[i].size(),
            "a tensor has a value at each position");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  espalier::fuzz::Input input(data, size);
  const bool honest = input.Choice(2) == 1;
  std::string bytes(input.Rest());
  if (honest) bytes = WithDigest(std::move(bytes));
  static const espalier::fuzz::Folder folder;
  folder.Write("a", bytes);
  io::FileSystem& files = io::PosixFileSystem();
  const auto metadata = checkpoint::ReadCheckpointMetadata(files, folder / "a");
  const auto summary = checkpoint::VerifyCheckpointFile(files, folder / "a");
  const auto loaded = checkpoint::ReadCheckpointFile(files, folder / "a");
  const auto reader = checkpoint::CheckpointReader::Open(files, folder / "a");
  if (reader.ok() && !loaded.ok()) (void)(*reader)->Verify();
  if (!loaded.ok()) return 0;
  Require(metadata.ok() && summary.ok(), "what can be loaded can be looked at");
  // A tensor of a large shape that stores little is read with all its zeros.
  constexpr int64_t kMostPositions = 1 << 20;
  if (loaded->state.topology->total_size() > kMostPositions) return 0;
  Require(reader.ok() && (*reader)->Verify().ok(), "what can be loaded can be read piece by piece");
  CheckTensors(**reader, loaded->state);
  Require(
      checkpoint::WriteCheckpointFile(files, folder / "b", loaded->state, loaded->metadata).ok(),
      "what was read can be written");
  const auto again = checkpoint::ReadCheckpointFile(files, folder / "b");
  Require(again.ok() && again->state.topology->hash() == loaded->state.topology->hash() &&
              again->state.values.size() == loaded->state.values.size(),
          "what was written is what was read");
  return 0;
}
