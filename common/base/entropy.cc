#include "common/base/entropy.h"

#include <sys/random.h>

#include <cerrno>

#include "common/base/check.h"

namespace espalier::base {

std::string SystemEntropy::Bytes(size_t n) {
  std::string bytes(n, '\0');
  size_t filled = 0;
  while (filled < n) {
    const ssize_t got = getrandom(bytes.data() + filled, n - filled, 0);
    ESPALIER_CHECK(got > 0 || errno == EINTR, "the kernel gives no random bytes");
    if (got > 0) filled += static_cast<size_t>(got);
  }
  return bytes;
}

}  // namespace espalier::base
