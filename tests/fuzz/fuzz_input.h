// What the targets share: how an input is cut into choices and parts, and how a target says that
// something does not hold.
//
// Form:      an input is a row of choices (one byte each), then parts, each of which begins with
//            its length as two bytes (little-endian), and then the rest. A part that says that it
//            is longer than what is left is what is left, so that every input means something.
// Ownership: an Input borrows the bytes. A Folder is removed when the process ends.
// Threading: not thread-safe.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

namespace espalier::fuzz {

// Ends the process when `holds` is false, by which the fuzzer notices and keeps the input.
inline void Require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what);
  std::abort();
}

class Input {
 public:
  Input(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}

  // A choice of 0 to `choices` − 1; 0 at the end.
  int Choice(int choices) {
    if (rest_.empty()) return 0;
    const int choice = static_cast<unsigned char>(rest_[0]) % choices;
    rest_.remove_prefix(1);
    return choice;
  }
  std::string_view Part() {
    const size_t low = static_cast<size_t>(Choice(256));
    const size_t length = low + 256 * static_cast<size_t>(Choice(256));
    const std::string_view part = rest_.substr(0, length);
    rest_.remove_prefix(part.size());
    return part;
  }
  std::string_view Rest() const { return rest_; }

 private:
  std::string_view rest_;
};

// A part of an input as it is written.
inline std::string AsPart(std::string_view bytes) {
  std::string part{static_cast<char>(bytes.size() & 255), static_cast<char>(bytes.size() >> 8)};
  return part.append(bytes);
}

// A folder in memory where the system has one, for decoders that read files by their names.
class Folder {
 public:
  Folder() {
    std::error_code none;
    const std::filesystem::path memory = "/dev/shm";
    std::filesystem::path parent = std::filesystem::temp_directory_path();
    if (std::filesystem::is_directory(memory, none)) parent = memory;
    std::string pattern = (parent / "espalier-fuzz-XXXXXX").string();
    const char* made = mkdtemp(pattern.data());
    Require(made != nullptr, "a folder can be made");
    path_ = made;
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  void Write(const std::string& name, std::string_view bytes) const {
    std::ofstream(*this / name, std::ios::binary) << bytes;
  }
  void Remove(const std::string& name) const {
    std::error_code ignored;
    std::filesystem::remove(*this / name, ignored);
  }
  void Add(const std::string& folder) const { std::filesystem::create_directories(*this / folder); }

 private:
  std::string path_;
};

}  // namespace espalier::fuzz
