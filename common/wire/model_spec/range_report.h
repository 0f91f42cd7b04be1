// RangeReport: where a layer's descriptor says which values of its message are out of range. The
// job's validator (common/config/checker.h) is one; it knows the path of the layer and the words.
#pragma once

#include <cstdint>
#include <string>

namespace espalier::wire {

// `field` is relative to the layer's message. Those that answer say whether the value is in range.
class RangeReport {
 public:
  // Reports `description` unless `ok`.
  virtual void Check(bool ok, const std::string& field, std::string description) const = 0;
  // low ≤ value ≤ high.
  virtual bool Whole(const std::string& field, int64_t value, int64_t low, int64_t high) const = 0;
  // `in_range` was computed such that NaN is outside; `range` says it to people.
  virtual bool Number(const std::string& field, double value, bool in_range,
                      const char* range) const = 0;
  // 0 ≤ value < 1.
  virtual bool Probability(const std::string& field, double value) const = 0;
  // `known`: whether the enum has the value, which a newer or broken client may send.
  virtual bool Enum(const std::string& field, bool known, int value) const = 0;

 protected:
  ~RangeReport() = default;
};

}  // namespace espalier::wire
