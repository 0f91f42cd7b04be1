// Files in memory, for the readers of a worker's data.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <string_view>
#include <utility>

#include "tests/fuzz/fuzz_input.h"
#include "worker/data/byte_stream.h"

namespace espalier::fuzz {

// More than an input can be, but for what unfolds.
inline constexpr worker::data::LoadOptions kSmallFiles = {.max_file_bytes = 1 << 22,
                                                          .max_memory_bytes = 1 << 26};

// `bytes` as a file that is read from its beginning.
inline worker::data::ByteStream MemoryStream(std::string_view bytes) {
  worker::data::UniqueFd file(memfd_create("input", MFD_CLOEXEC));
  Require(file.get() >= 0, "a file in memory can be made");
  Require(write(file.get(), bytes.data(), bytes.size()) == static_cast<ssize_t>(bytes.size()),
          "a file in memory can be written");
  Require(lseek(file.get(), 0, SEEK_SET) == 0, "a file in memory can be read");
  auto stream = worker::data::ByteStream::Open(std::move(file), "input", kSmallFiles);
  Require(stream.ok(), "a file in memory can be opened");
  return *std::move(stream);
}

}  // namespace espalier::fuzz
