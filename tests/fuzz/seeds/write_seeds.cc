// write_seeds FOLDER EXAMPLES: inputs for the fuzzers to begin with, in FOLDER/TARGET. EXAMPLES is
// the folder of job files.
#include <array>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "common/base/check.h"
#include "common/io/file_system.h"
#include "common/language/checkpoint_writer.h"
#include "tests/fuzz/seeds/seeds.h"
#include "tests/support/language_model.h"

namespace espalier {
namespace {

void Write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

std::string Read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A checkpoint as it is saved, dense or in the sparse form, that says its configuration itself.
void WriteCheckpoint(const std::string& folder, const std::string& name,
                     language::CheckpointFormat format) {
  const support::LanguageModel model =
      support::RandomLanguageModel(support::SmallConfig("llama"), 1, 0.5);
  const std::string work = folder + "/" + name + ".work";
  const auto writer = language::CheckpointWriter::Create(
      io::PosixFileSystem(), work, model.config,
      {.format = format, .metadata = {{"config", model.config.json}}});
  ESPALIER_CHECK(writer.ok() && (*writer)->WriteOuter(model.outer).ok(), "seeds can be written");
  for (const language::BlockWeights& block : model.blocks) {
    ESPALIER_CHECK((*writer)->WriteBlock(block).ok(), "seeds can be written");
  }
  ESPALIER_CHECK((*writer)->Finish().ok(), "seeds can be written");
  Write(folder + "/" + name, Read(work + "/model.safetensors"));
  std::filesystem::remove_all(work);
}

// The first byte chooses what the rest is (fuzz_tokenizer.cc).
void WriteTokenizers(const std::string& folder) {
  std::string llama2c("\x08\0\0\0", 4);
  std::string vocabulary;
  const auto add = [&](const std::string& text, int number) {
    llama2c += std::string(4, '\0') + std::string({static_cast<char>(text.size()), 0, 0, 0}) + text;
    vocabulary += (number == 0 ? "\"" : ",\"") + text + "\":" + std::to_string(number);
  };
  const std::array<std::string, 3> controls = {"<unk>", "<s>", "</s>"};
  for (int i = 0; i < 3; ++i) add(controls[i], i);
  constexpr char kDigits[] = "0123456789ABCDEF";
  for (int byte = 0; byte < 256; ++byte) {
    add(std::string("<0x") + kDigits[byte / 16] + kDigits[byte % 16] + ">", 3 + byte);
  }
  add("a", 259);
  add("b", 260);
  add("ab", 261);
  Write(folder + "/llama2c", std::string(1, '\0') + llama2c);
  Write(folder + "/json",
        "\x02{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true}],\"normalizer\":{"
        "\"type\":\"Prepend\",\"prepend\":\"\xe2\x96\x81\"},\"model\":{\"type\":\"BPE\","
        "\"byte_fallback\":true,\"vocab\":{" +
            vocabulary + "},\"merges\":[\"a b\"]}}");
  Write(folder + "/config", "\x05" + support::SmallConfig("llama"));
  Write(folder + "/tokens", std::string("\x04\x01\0\x02\0", 5));
}

}  // namespace
}  // namespace espalier

int main(int argc, char** argv) {
  if (argc != 3) return 1;
  const std::string folder = argv[1];
  for (const char* name : {"/checkpoint", "/tokenizer"}) {
    std::filesystem::create_directories(folder + name);
  }
  espalier::WriteCheckpoint(folder + "/checkpoint", "dense",
                            espalier::language::CheckpointFormat::kHuggingFace);
  espalier::WriteCheckpoint(folder + "/checkpoint", "sparse",
                            espalier::language::CheckpointFormat::kSparse);
  espalier::WriteTokenizers(folder + "/tokenizer");
  const espalier::fuzz::Seeds seeds(folder);
  espalier::fuzz::AddWireSeeds(seeds);
  espalier::fuzz::AddServerSeeds(seeds, argv[2]);
  espalier::fuzz::AddDataSeeds(seeds);
  espalier::fuzz::AddPkiSeeds(seeds);
  return 0;
}
