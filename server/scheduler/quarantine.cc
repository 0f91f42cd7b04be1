#include "server/scheduler/quarantine.h"

#include <fmt/core.h>

#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

namespace espalier::server::scheduler {
namespace {

void DropOlder(absl::Duration than, std::deque<absl::Duration>& moments) {
  while (!moments.empty() && moments.front() < than) moments.pop_front();
}

}  // namespace

bool Quarantine::IsForgiven(const Record& record) const {
  return clock_.Elapsed() - std::max(record.last, record.until) > kGoodTime;
}

// Many at once, so that strangers who come under one id after the other cost little each.
void Quarantine::MakeRoom() {
  if (records_.size() < kMost) return;
  std::vector<std::pair<absl::Duration, std::string>> by_age;
  by_age.reserve(records_.size());
  for (const auto& [worker, record] : records_) {
    by_age.emplace_back(std::max(record.last, record.until), worker);
  }
  const auto quarter = by_age.begin() + static_cast<std::ptrdiff_t>(kMost / 4);
  std::nth_element(by_age.begin(), quarter, by_age.end());
  for (auto it = by_age.begin(); it != quarter; ++it) records_.erase(it->second);
}

Quarantine::Record& Quarantine::Of(const std::string& worker) {
  const auto it = records_.find(worker);
  if (it == records_.end()) {
    MakeRoom();
  } else if (IsForgiven(it->second)) {
    it->second = {};
  }
  Record& record = records_[worker];
  record.last = clock_.Elapsed();
  return record;
}

void Quarantine::Begin(Record& record, std::string why) const {
  const int doublings = std::min(record.quarantines++, 10);
  record.until =
      clock_.Elapsed() + std::min<absl::Duration>(kLongest, kFirst * (int64_t{1} << doublings));
  record.why = std::move(why);
  record.strikes.clear();
  record.short_lives.clear();
}

Quarantine::Verdict Quarantine::Strike(const std::string& worker, const std::string& update_id,
                                       const std::string& reason) {
  Record& record = Of(worker);
  if (!update_id.empty() && record.struck_id == update_id) return {};
  record.struck_id = update_id;
  record.strikes.push_back(clock_.Elapsed());
  DropOlder(clock_.Elapsed() - kStrikesWithin, record.strikes);
  if (static_cast<int>(record.strikes.size()) < kStrikes) return {.counted = true};
  Begin(record, fmt::format("{} of its results within {} were refused for reasons that no correct "
                            "worker gives, the last one with {}; look at the worker's program, "
                            "memory and data",
                            kStrikes, absl::FormatDuration(kStrikesWithin), reason));
  return {.counted = true, .begins = true};
}

void Quarantine::GoodResult(const std::string& worker) {
  const auto it = records_.find(worker);
  if (it != records_.end()) it->second.short_lives.clear();
}

void Quarantine::SessionEnded(const std::string& worker) {
  Record& record = Of(worker);
  record.short_lives.push_back(clock_.Elapsed());
  // A few more than would be enough, of which some may not be its own.
  if (record.short_lives.size() > 4 * kShortLives) record.short_lives.pop_front();
}

bool Quarantine::Registers(const std::string& worker,
                           const std::function<bool(absl::Duration at)>& is_its_own) {
  const auto it = records_.find(worker);
  if (it == records_.end()) return false;
  Record& record = it->second;
  DropOlder(clock_.Elapsed() - kShortLivesWithin, record.short_lives);
  if (record.short_lives.size() <= kShortLives) return false;
  const auto own = std::count_if(record.short_lives.begin(), record.short_lives.end(), is_its_own);
  if (own <= kShortLives) return false;
  Begin(record, fmt::format("it came and went {} times within {} without a good result; look at "
                            "what the worker printed last, or at its network",
                            own, absl::FormatDuration(kShortLivesWithin)));
  return true;
}

std::optional<Quarantine::Term> Quarantine::Find(const std::string& worker) const {
  const auto it = records_.find(worker);
  if (it == records_.end() || it->second.until <= clock_.Elapsed()) return std::nullopt;
  return Term{it->second.until, it->second.why};
}

}  // namespace espalier::server::scheduler
