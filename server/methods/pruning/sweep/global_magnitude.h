// The smallest magnitudes of many weights that are seen a stretch at a time.
//
// Use:         let every stretch pass by Count(), call Narrow(), let them pass again in the same
//              order, call Choose(), and then IsPruned() says of each weight, in that order,
//              whether it goes.
// Memory:      512 KiB of counts. Determinism: of equal magnitudes those that come first go.
// Threading:   not thread-safe.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace espalier::server::methods {

class GlobalMagnitude {
 public:
  // Prunes `count` weights.
  explicit GlobalMagnitude(int64_t count);
  void Count(std::span<const float> values);
  void Narrow();
  void Choose();
  bool IsPruned(float value);
  // Sets those that go to 0.
  void Prune(std::span<float> values);

 private:
  // The first index whose cumulative count exceeds what is left to prune; subtracts those before.
  uint32_t Walk();

  int64_t left_;
  bool narrowed_ = false;
  uint32_t high_ = 0;  // upper bits of the threshold
  uint32_t bits_ = 0;  // the threshold: smaller magnitudes go
  std::vector<int64_t> counts_;
};

}  // namespace espalier::server::methods
