#include "server/jobs/listing/round_memory.h"

#include <algorithm>
#include <ranges>
#include <utility>

namespace espalier::server::jobs {
namespace {

bool IsOf(const v1::RoundProgress& round, const std::string& run) {
  return run.empty() || round.run() == run;
}

}  // namespace

void RoundMemory::Keep(v1::RoundProgress round) {
  const size_t bytes = round.SpaceUsedLong();
  const auto job = jobs_.try_emplace(round.job()).first;
  bytes_ += bytes;
  entries_.push_back({std::move(round), bytes});
  job->second.push_back(std::prev(entries_.end()));
  if (job->second.size() > kRoundsOfJob) DropOldestOf(job);
  while (bytes_ > most_bytes_ && !entries_.empty()) {
    DropOldestOf(jobs_.find(entries_.front().round.job()));
  }
}

void RoundMemory::DropOldestOf(std::map<std::string, OfJob>::iterator job) {
  const Entries::iterator oldest = job->second.front();
  job->second.pop_front();
  bytes_ -= oldest->bytes;
  entries_.erase(oldest);
  if (job->second.empty()) jobs_.erase(job);
}

const v1::RoundProgress* RoundMemory::Find(const std::string& job, int32_t number,
                                           const std::string& run) const {
  const auto of_job = jobs_.find(job);
  if (of_job == jobs_.end()) return nullptr;
  for (const Entries::iterator& entry : std::views::reverse(of_job->second)) {
    const v1::RoundProgress& round = entry->round;
    if ((number == 0 || round.round() == number) && IsOf(round, run)) return &round;
  }
  return nullptr;
}

int32_t RoundMemory::Oldest(const std::string& job, const std::string& run) const {
  const auto of_job = jobs_.find(job);
  if (of_job == jobs_.end()) return 0;
  const auto first = std::ranges::find_if(
      of_job->second, [&run](const Entries::iterator& entry) { return IsOf(entry->round, run); });
  return first == of_job->second.end() ? 0 : (*first)->round.round();
}

void RoundMemory::Forget(const std::string& job) {
  for (auto it = jobs_.find(job); it != jobs_.end(); it = jobs_.find(job)) DropOldestOf(it);
}

}  // namespace espalier::server::jobs
