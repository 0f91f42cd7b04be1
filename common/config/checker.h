// Checker: what the parts of the job validator share, the descriptors of layers among them.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "common/config/parameters.h"
#include "common/config/text.h"
#include "common/wire/model_spec/range_report.h"
#include "fmt/format.h"

namespace espalier::config {

// Collects violations under a path. Borrows the list.
class Checker final : public wire::RangeReport {
 public:
  explicit Checker(std::vector<Violation>& violations, std::string path = "")
      : violations_(violations), path_(std::move(path)) {}

  Checker In(const std::string& field) const { return Checker(violations_, Path(field)); }

  void Fail(const std::string& field, std::string description) const {
    violations_.push_back({Path(field), std::move(description)});
  }
  void Check(bool ok, const std::string& field, std::string description) const override {
    if (!ok) Fail(field, std::move(description));
  }

  // low ≤ value ≤ high.
  bool Whole(const std::string& field, int64_t value, int64_t low, int64_t high) const override {
    const bool ok = value >= low && value <= high;
    Check(ok, field,
          fmt::format("must be {}..{}, found {}", Grouped(low), Grouped(high), Grouped(value)));
    return ok;
  }
  // `in_range` was computed such that NaN is outside. Whatever the range is, a number must leave
  // room for what it is multiplied with: float32 ends at 3e38.
  bool Number(const std::string& field, double value, bool in_range,
              const char* range) const override {
    constexpr double kSmallest = 1e-30;
    constexpr double kLargest = 1e30;
    if (!in_range || !std::isfinite(value)) {
      Fail(field, fmt::format("must be {}, found {}", range, value));
      return false;
    }
    const double size = std::abs(value);
    const bool bounded = size == 0 || (size >= kSmallest && size <= kLargest);
    Check(bounded, field,
          fmt::format("must be 0 or between {} and {} without its sign, found {}", kSmallest,
                      kLargest, value));
    return bounded;
  }
  bool Probability(const std::string& field, double value) const override {
    return Number(field, value, value >= 0 && value < 1, "0 ≤ x < 1");
  }
  // A value outside the enum, which a newer or broken client may send.
  bool Enum(const std::string& field, bool known, int value) const override {
    Check(known, field,
          fmt::format("unknown value {}; this server may be older than the client", value));
    return known;
  }

 private:
  std::string Path(const std::string& field) const {
    if (path_.empty() || field.empty()) return path_ + field;
    return path_ + "." + field;
  }

  std::vector<Violation>& violations_;
  std::string path_;
};

}  // namespace espalier::config
