// SHA-256, incrementally. Not thread-safe; one object per digest.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace espalier::io {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;

  void Update(const void* data, size_t size);
  void Update(std::string_view bytes) { Update(bytes.data(), bytes.size()); }
  // 64 lower-case hexadecimal digits over all bytes so far. The object then starts anew.
  std::string HexDigest();

 private:
  struct Free {
    void operator()(evp_md_ctx_st* context) const;
  };
  std::unique_ptr<evp_md_ctx_st, Free> context_;
};

// Digest of `bytes`, hexadecimal.
std::string Sha256Hex(std::string_view bytes);

// Whether `text` has the form of a digest: 64 lower-case hexadecimal digits.
bool IsSha256Hex(std::string_view text);

}  // namespace espalier::io
