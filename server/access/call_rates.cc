#include "server/access/call_rates.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::server::access {

CallRates::Stream::Stream(Stream&& other) noexcept
    : rates_(std::exchange(other.rates_, nullptr)), caller_(other.caller_) {}

CallRates::Stream& CallRates::Stream::operator=(Stream&& other) noexcept {
  std::swap(rates_, other.rates_);
  std::swap(caller_, other.caller_);
  return *this;
}

CallRates::Stream::~Stream() {
  if (rates_ != nullptr) rates_->Close(caller_);
}

CallRates::CallRates(const CallRateLimits& limits) : limits_(limits) {
  ESPALIER_CHECK(limits.streams >= 0 && static_cast<size_t>(limits.streams) < limits.callers,
                 "a caller without streams can always be forgotten");
  ESPALIER_CHECK(limits.calls_per_second > 0 && limits.bytes_per_second > 0 &&
                     limits.call_burst >= 1 && limits.byte_burst > 0,
                 "every caller is let in some time");
}

CallRates::~CallRates() {
  const base::MutexLock lock(mutex_);
  ESPALIER_CHECK(streams_ == 0, "streams give their place back before that");
}

absl::Status CallRates::Take(const std::string& caller, int64_t bytes, absl::Duration now) {
  const base::MutexLock lock(mutex_);
  Caller& found = *At(caller, now);
  const double for_calls = (1 - found.calls) / limits_.calls_per_second;
  const double for_bytes = -found.bytes / limits_.bytes_per_second;
  const double wait = std::max(for_calls, for_bytes);
  if (wait > 0) {
    return base::MakeError(
        absl::StatusCode::kResourceExhausted, "CALL_RATE",
        fmt::format("expected at most {:.0f} calls and {:.0f} bytes a second of one caller, found "
                    "more; try again in {:.2f} s",
                    limits_.calls_per_second, limits_.bytes_per_second, std::max(wait, 0.01)));
  }
  found.calls -= 1;
  found.bytes -= static_cast<double>(std::max<int64_t>(bytes, 0));
  return absl::OkStatus();
}

absl::StatusOr<CallRates::Stream> CallRates::Open(const std::string& caller, absl::Duration now) {
  const base::MutexLock lock(mutex_);
  const auto found = At(caller, now);
  const bool all = streams_ >= limits_.streams;
  if (all || found->streams >= limits_.streams_per_caller) {
    return base::MakeError(
        absl::StatusCode::kResourceExhausted, "STREAMS_FULL",
        fmt::format("expected at most {} open streams {}, found as many; end some, such as "
                    "commands that watch, or try again later",
                    all ? limits_.streams : limits_.streams_per_caller,
                    all ? "of all callers" : "of one caller"));
  }
  streaming_.splice(streaming_.end(), ListOf(*found), found);
  ++found->streams;
  ++streams_;
  return Stream(this, found);
}

size_t CallRates::callers() const {
  const base::MutexLock lock(mutex_);
  return by_name_.size();
}

CallRates::Callers::iterator CallRates::At(const std::string& name, absl::Duration now) {
  const auto known = by_name_.find(name);
  if (known == by_name_.end()) {
    if (by_name_.size() >= limits_.callers) {
      by_name_.erase(others_.front().name);
      others_.pop_front();
    }
    const auto added =
        others_.insert(others_.end(), Caller{name, limits_.call_burst, limits_.byte_burst, now});
    by_name_.emplace(name, added);
    return added;
  }
  const auto caller = known->second;
  Callers& list = ListOf(*caller);
  list.splice(list.end(), list, caller);
  const double seconds = std::max(0.0, absl::ToDoubleSeconds(now - caller->at));
  caller->calls = std::min(limits_.call_burst, caller->calls + seconds * limits_.calls_per_second);
  caller->bytes = std::min(limits_.byte_burst, caller->bytes + seconds * limits_.bytes_per_second);
  caller->at = std::max(caller->at, now);
  return caller;
}

void CallRates::Close(Callers::iterator caller) {
  const base::MutexLock lock(mutex_);
  --streams_;
  if (--caller->streams > 0) return;
  others_.splice(others_.end(), streaming_, caller);
}

}  // namespace espalier::server::access
