// Small data files in a temporary folder, for the tests of worker/data.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp is POSIX
#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace espalier::worker::data {

// The repository's own data sets.
inline std::string RepositoryData() {
  const char* source = std::getenv("ESPALIER_SOURCE_DIR");
  return std::string(source == nullptr ? "." : source) + "/data";
}

// A data root that disappears after the test.
class DataFolder {
 public:
  DataFolder() {
    std::string pattern =
        (std::filesystem::temp_directory_path() / "espalier-data-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  DataFolder(const DataFolder&) = delete;
  DataFolder& operator=(const DataFolder&) = delete;
  ~DataFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  const std::string& path() const { return path_; }

  void Write(const std::string& relative, std::string_view bytes) const {
    const std::filesystem::path file = std::filesystem::path(path_) / relative;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << bytes;
  }

 private:
  std::string path_;
};

inline std::string Gzip(std::string_view bytes) {
  const std::string file = (std::filesystem::temp_directory_path() / "espalier-gz-XXXXXX").string();
  std::string name = file;
  const int fd = ::mkstemp(name.data());
  gzFile out = gzdopen(fd, "wb");
  gzwrite(out, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(out);
  std::ifstream in(name, std::ios::binary);
  std::string packed((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  std::filesystem::remove(name);
  return packed;
}

inline std::string BigEndian(uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

// An IDX file: type 0x08 (bytes) or 0x0C (int32), whatever follows in `values`.
inline std::string Idx(int type, const std::vector<uint32_t>& dims, std::string_view values) {
  std::string bytes{'\0', '\0', static_cast<char>(type), static_cast<char>(dims.size())};
  for (const uint32_t dim : dims) bytes += BigEndian(dim);
  return bytes + std::string(values);
}

// A .npy file of version 1.
inline std::string Npy(const std::string& type, const std::string& shape, std::string_view values,
                       const std::string& fortran = "False") {
  std::string header =
      "{'descr': '" + type + "', 'fortran_order': " + fortran + ", 'shape': " + shape + ", }";
  while ((10 + header.size() + 1) % 64 != 0) header += ' ';
  header += '\n';
  std::string bytes("\x93NUMPY\x01\x00", 8);
  bytes += static_cast<char>(header.size() & 0xFF);
  bytes += static_cast<char>(header.size() >> 8);
  return bytes + header + std::string(values);
}

template <typename T>
std::string Raw(const std::vector<T>& values) {
  std::string bytes(values.size() * sizeof(T), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

// One CIFAR-10 record whose pixels are all `pixel`.
inline std::string CifarRecord(int label, int pixel) {
  return std::string(1, static_cast<char>(label)) + std::string(3072, static_cast<char>(pixel));
}

}  // namespace espalier::worker::data
