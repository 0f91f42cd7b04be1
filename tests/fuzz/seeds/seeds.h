// Valid inputs for the fuzzers to begin with, by target: FOLDER/TARGET/NAME.
#pragma once

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>

#include "common/base/check.h"
#include "tests/fuzz/fuzz_input.h"

namespace espalier::fuzz {

class Seeds {
 public:
  explicit Seeds(std::string folder) : folder_(std::move(folder)) {}

  // `bytes` is an input as the target reads it, choices included.
  void Add(const std::string& target, const std::string& name, const std::string& bytes) const {
    const std::filesystem::path file = std::filesystem::path(folder_) / target / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
    ESPALIER_CHECK(std::filesystem::exists(file), "seeds can be written");
  }

 private:
  std::string folder_;
};

// The choices of an input, a byte each.
template <typename... Choices>
std::string Chosen(Choices... choices) {
  return {static_cast<char>(choices)...};
}

// wire.cc: index sets, structures, chunks and results.
void AddWireSeeds(const Seeds& seeds);
// server.cc: what a coordinator keeps and is answered. `examples`: the folder of job files.
void AddServerSeeds(const Seeds& seeds, const std::string& examples);
// data.cc: the files of a worker's data.
void AddDataSeeds(const Seeds& seeds);
// pki.cc: certificates and what is about them.
void AddPkiSeeds(const Seeds& seeds);

}  // namespace espalier::fuzz
