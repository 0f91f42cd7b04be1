#include "server/api/download_tickets.h"

#include "common/base/status.h"

namespace espalier::server::api {
namespace {

constexpr size_t kTicketBytes = 16;

}  // namespace

std::string DownloadTickets::Issue(const std::string& checkpoint, const std::string& caller) {
  const base::MutexLock lock(mutex_);
  DropExpired();
  const Holder holder{checkpoint, caller};
  const absl::Duration now = clock_.Elapsed();
  if (const auto found = newest_.find(holder); found != newest_.end()) {
    if (tickets_.at(found->second).expires - now > lifetime_ / 2) return found->second;
  }
  while (tickets_.size() >= most_) Drop(by_expiry_.begin()->second);
  const std::string ticket = entropy_.Bytes(kTicketBytes);
  tickets_[ticket] = {holder, now + lifetime_};
  by_expiry_.emplace(now + lifetime_, ticket);
  newest_[holder] = ticket;
  return ticket;
}

absl::Status DownloadTickets::Check(const std::string& ticket, const std::string& checkpoint,
                                    const std::string& caller) {
  const base::MutexLock lock(mutex_);
  DropExpired();
  const auto found = tickets_.find(ticket);
  if (found != tickets_.end() && found->second.holder == Holder{checkpoint, caller}) {
    return absl::OkStatus();
  }
  return base::MakeError(
      absl::StatusCode::kPermissionDenied, "TICKET_INVALID",
      "expected the download_ticket that GetCheckpoint gave this caller for this "
      "checkpoint within the last minutes, found another or none; call "
      "GetCheckpoint again");
}

void DownloadTickets::DropExpired() {
  const absl::Duration now = clock_.Elapsed();
  while (!by_expiry_.empty() && by_expiry_.begin()->first <= now) Drop(by_expiry_.begin()->second);
}

// By value: the caller's may be inside what is erased.
void DownloadTickets::Drop(std::string ticket) {  // NOLINT(performance-unnecessary-value-param)
  const auto found = tickets_.find(ticket);
  const auto newest = newest_.find(found->second.holder);
  if (newest != newest_.end() && newest->second == ticket) newest_.erase(newest);
  const auto [first, last] = by_expiry_.equal_range(found->second.expires);
  for (auto it = first; it != last; ++it) {
    if (it->second != ticket) continue;
    by_expiry_.erase(it);
    break;
  }
  tickets_.erase(found);
}

}  // namespace espalier::server::api
