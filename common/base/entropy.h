// Entropy: random bytes for secrets and names that nobody may guess: sessions, tickets, update ids.
// What has to be repeatable draws from base::Rng instead.
//
// Threading: implementations are thread-safe.
#pragma once

#include <cstddef>
#include <string>

namespace espalier::base {

class Entropy {
 public:
  virtual ~Entropy() = default;
  virtual std::string Bytes(size_t count) = 0;
};

// The operating system's generator. Ends the process should that ever fail.
class SystemEntropy : public Entropy {
 public:
  std::string Bytes(size_t count) override;
};

}  // namespace espalier::base
