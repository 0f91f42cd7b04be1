// Zero-initialised float storage aligned to 64 bytes: one cache line, one AVX-512 register.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <span>

namespace espalier::worker::engine {

class AlignedBuffer {
 public:
  AlignedBuffer() = default;
  explicit AlignedBuffer(int64_t size)
      : size_(size),
        data_(static_cast<float*>(::operator new (sizeof(float) * size, std::align_val_t{64}))) {
    std::memset(data_.get(), 0, sizeof(float) * size);
  }

  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  int64_t size() const { return size_; }
  std::span<float> span() { return {data(), static_cast<size_t>(size_)}; }
  std::span<const float> span() const { return {data(), static_cast<size_t>(size_)}; }

 private:
  struct Free {
    void operator()(float* data) const { ::operator delete (data, std::align_val_t{64}); }
  };
  int64_t size_ = 0;
  std::unique_ptr<float, Free> data_;
};

}  // namespace espalier::worker::engine
