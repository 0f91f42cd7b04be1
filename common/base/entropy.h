// Entropy: the one source of unpredictable bytes, injected so that tests know what comes.
//
// For what must not be guessed: sessions, tickets, tokens. Whatever has to be reproducible is drawn
// from Rng under a key instead.
// Threading: implementations are thread-safe.
#pragma once

#include <cstddef>
#include <string>

namespace espalier::base {

class Entropy {
 public:
  virtual ~Entropy() = default;
  // `n` bytes.
  virtual std::string Bytes(size_t n) = 0;
};

// The kernel's generator. It is there from the first moments of a machine's life on and does not
// fail; a kernel without it ends the process.
class SystemEntropy : public Entropy {
 public:
  std::string Bytes(size_t n) override;
};

}  // namespace espalier::base
