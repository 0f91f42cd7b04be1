// fuzz_replay CORPUS: runs each target over the inputs that are kept of it, CORPUS/TARGET.tar.gz,
// without a fuzzer. A target that finds something ends the process. Targets without kept inputs are
// an error, so that none is forgotten.
#include <zlib.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

namespace {

struct Target {
  std::string_view name;
  int (*run)(const uint8_t* data, size_t size);
};

}  // namespace

#include "targets.inc"

namespace {

constexpr size_t kBlock = 512;
constexpr size_t kNameBytes = 100;
constexpr size_t kSizeAt = 124;
constexpr size_t kSizeDigits = 11;

struct Closer {
  void operator()(gzFile file) const { gzclose_r(file); }
};
using Archive = std::unique_ptr<gzFile_s, Closer>;

bool ReadBytes(const Archive& archive, char* out, size_t size) {
  return gzread(archive.get(), out, static_cast<unsigned>(size)) == static_cast<int>(size);
}

// Runs `target` over the files of its archive. Returns how many there were; −1: the archive cannot
// be read.
int Replay(const Target& target, const std::string& path) {
  const Archive archive(gzopen(path.c_str(), "rb"));
  if (archive == nullptr) return -1;
  int count = 0;
  std::array<char, kBlock> header;
  while (ReadBytes(archive, header.data(), header.size()) && header[0] != '\0') {
    size_t size = 0;
    std::from_chars(header.data() + kSizeAt, header.data() + kSizeAt + kSizeDigits, size, 8);
    std::string bytes((size + kBlock - 1) / kBlock * kBlock, '\0');
    if (!ReadBytes(archive, bytes.data(), bytes.size())) return -1;
    bytes.resize(size);
    bytes.shrink_to_fit();
    std::fprintf(stderr, "%s %.*s\n", path.c_str(), static_cast<int>(kNameBytes), header.data());
    (void)target.run(reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    ++count;
  }
  return count;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 1;
  for (const Target& target : kTargets) {
    const std::string_view name = target.name.substr(target.name.find('_') + 1);
    const std::string path = std::string(argv[1]) + "/" + std::string(name) + ".tar.gz";
    const int count = Replay(target, path);
    if (count <= 0) {
      std::fprintf(stderr, "expected inputs in %s, found none; tests/fuzz/run.sh --keep\n",
                   path.c_str());
      return 1;
    }
    std::printf("%s: %d inputs\n", path.c_str(), count);
  }
  return 0;
}
