#include "server/events/event_log.h"

#include <algorithm>
#include <utility>

#include "common/base/check.h"

namespace espalier::server::events {

void EventLog::Append(v1::JobEvent event) {
  const base::MutexLock lock(mutex_);
  event.set_sequence(static_cast<int64_t>(events_.size()) + 1);
  events_.push_back(event.SerializeAsString());
}

void EventLog::Restore(const std::vector<v1::JobEvent>& events) {
  const base::MutexLock lock(mutex_);
  for (const v1::JobEvent& event : events) events_.push_back(event.SerializeAsString());
  shown_ = events_.size();
}

void EventLog::Close() {
  const base::MutexLock lock(mutex_);
  closed_ = true;
}

void EventLog::Show(int64_t sequence) {
  {
    const base::MutexLock lock(mutex_);
    shown_ = std::max(shown_, std::min(events_.size(), static_cast<size_t>(sequence)));
  }
  Notify();
}

std::optional<v1::JobEvent> EventLog::At(int64_t sequence, size_t end) const {
  if (sequence < 0 || sequence >= static_cast<int64_t>(end)) return std::nullopt;
  std::optional<v1::JobEvent> event(std::in_place);
  ESPALIER_CHECK(event->ParseFromString(events_[sequence]), "an event is what was encoded");
  return event;
}

std::optional<v1::JobEvent> EventLog::After(int64_t sequence) const {
  const base::MutexLock lock(mutex_);
  return At(sequence, shown_);
}

std::optional<v1::JobEvent> EventLog::AfterOfAll(int64_t sequence) const {
  const base::MutexLock lock(mutex_);
  return At(sequence, events_.size());
}

bool EventLog::closed() const {
  const base::MutexLock lock(mutex_);
  return closed_ && shown_ == events_.size();
}

int64_t EventLog::last_shown() const {
  const base::MutexLock lock(mutex_);
  return static_cast<int64_t>(shown_);
}

int64_t EventLog::last_sequence() const {
  const base::MutexLock lock(mutex_);
  return static_cast<int64_t>(events_.size());
}

uint64_t EventLog::Listen(std::function<void()> listener) {
  const base::MutexLock lock(listeners_mutex_);
  listeners_[next_listener_] = std::move(listener);
  return next_listener_++;
}

void EventLog::Unlisten(uint64_t id) {
  const base::MutexLock lock(listeners_mutex_);
  listeners_.erase(id);
}

void EventLog::Notify() {
  const base::MutexLock lock(listeners_mutex_);
  for (const auto& [id, listener] : listeners_) listener();
}

}  // namespace espalier::server::events
