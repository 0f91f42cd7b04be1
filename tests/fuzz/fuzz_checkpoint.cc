#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "common/wire/safetensors.h"
#include "tests/support/checkpoint_bytes.h"
#include "tests/support/language_model.h"

namespace {

// A folder with the config.json of a small model, for this process.
const std::string& Folder() {
  static const std::string folder = [] {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "espalier-fuzz-XXXXXX").string();
    const std::string path = mkdtemp(pattern.data());
    std::ofstream(path + "/config.json") << espalier::support::SmallConfig("llama");
    return path;
  }();
  return folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const auto header = espalier::wire::DecodeSafetensorsHeader(bytes, size);
  // Most inputs end here; the others are worth a file.
  if (!header.ok()) return 0;
  (void)espalier::support::ReadAllWeights(Folder(), bytes);
  // As a checkpoint that says its configuration itself.
  const auto reader =
      espalier::language::CheckpointReader::OpenFile(Folder() + "/model.safetensors");
  if (reader.ok()) (void)espalier::support::ReadAll(**reader);
  return 0;
}
