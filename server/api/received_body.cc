#include "server/api/received_body.h"

#include <algorithm>
#include <numeric>

#include "common/base/status.h"

namespace espalier::server::api {

ReceivedBody::ReceivedBody(uint64_t size, std::string sha256, std::unique_ptr<io::SpoolFile> spool)
    : size_(size),
      sha256_(std::move(sha256)),
      spool_(std::move(spool)),
      assembler_(size_, sha256_, [this](std::string_view bytes) -> absl::Status {
        if (spool_ != nullptr) return spool_->Append(bytes);
        memory_->append(bytes);
        return absl::OkStatus();
      }) {}

bool ReceivedBody::is_part() const {
  return spool_ != nullptr && received() > 0 && received() < size_ && spool_->size() == received();
}

absl::StatusOr<round::Body> ReceivedBody::Finish() {
  ESPALIER_RETURN_IF_ERROR(assembler_.Finish());
  if (spool_ == nullptr) {
    return [memory = memory_](uint64_t offset, uint64_t size, const auto& sink) {
      return sink(std::string_view(*memory).substr(offset, size));
    };
  }
  return [spool = spool_](uint64_t offset, uint64_t size, const auto& sink) {
    return spool->ForEachBlock(offset, size, sink);
  };
}

void UnfinishedBodies::Keep(const std::string& worker, std::unique_ptr<ReceivedBody> body) {
  // One with more of the same bytes is there, if somebody was quicker.
  if (auto other = Take(worker, body->sha256(), body->size());
      other != nullptr && other->received() > body->received()) {
    body = std::move(other);
  }
  bodies_.push_back({worker, std::move(body), clock_.Elapsed()});
  const auto bytes = [this] {
    return std::accumulate(
        bodies_.begin(), bodies_.end(), uint64_t{0},
        [](uint64_t sum, const Kept& kept) { return sum + kept.body->received(); });
  };
  while (bodies_.size() > kMost || bytes() > kMostBytes) bodies_.pop_front();
}

std::unique_ptr<ReceivedBody> UnfinishedBodies::Take(const std::string& worker,
                                                     const std::string& sha256, uint64_t size) {
  const absl::Duration now = clock_.Elapsed();
  while (!bodies_.empty() && now - bodies_.front().since > kKept) bodies_.pop_front();
  const auto it = std::ranges::find_if(bodies_, [&](const Kept& kept) {
    return kept.worker == worker && kept.body->sha256() == sha256 && kept.body->size() == size;
  });
  if (it == bodies_.end()) return nullptr;
  std::unique_ptr<ReceivedBody> body = std::move(it->body);
  bodies_.erase(it);
  return body;
}

}  // namespace espalier::server::api
