#include "common/base/entropy.h"

#include <sys/random.h>

#include <cerrno>

#include "common/base/check.h"

namespace espalier::base {

std::string SystemEntropy::Bytes(size_t count) {
  std::string bytes(count, '\0');
  for (size_t got = 0; got < count;) {
    const ssize_t more = getrandom(bytes.data() + got, count - got, 0);
    ESPALIER_CHECK(more > 0 || errno == EINTR, "the system's random number generator failed");
    if (more > 0) got += static_cast<size_t>(more);
  }
  return bytes;
}

}  // namespace espalier::base
