#include "server/events/change_feed.h"

#include <algorithm>
#include <utility>

namespace espalier::server::events {

using Kind = ChangeFeed::Change::Kind;

void ChangeFeed::Changed(const std::string& name, const std::string& owner) {
  uint64_t& number = things_[name];
  changes_.erase(number);
  Add({.kind = Kind::kChanged, .name = name, .owner = owner});
  number = last_;
}

void ChangeFeed::Gone(const std::string& name) {
  const auto thing = things_.find(name);
  if (thing == things_.end()) return;
  std::string owner = changes_.at(thing->second).owner;
  changes_.erase(thing->second);
  things_.erase(thing);
  Add({.kind = Kind::kGone, .name = name, .owner = std::move(owner)});
  passing_[last_] = 0;
  DropOldest();
}

void ChangeFeed::Happened(const std::string& name, const std::string& owner, v1::JobEvent event) {
  auto named = std::make_shared<v1::NamedEvent>();
  named->set_job(name);
  *named->mutable_event() = std::move(event);
  const size_t bytes = named->SpaceUsedLong();
  Add({.kind = Kind::kEvent, .name = name, .owner = owner, .event = std::move(named)});
  passing_[last_] = bytes;
  bytes_ += bytes;
  DropOldest();
}

void ChangeFeed::Add(Change change) {
  change.number = ++last_;
  changes_.emplace_hint(changes_.end(), last_, std::move(change));
}

void ChangeFeed::DropOldest() {
  while (passing_.size() > most_passing_ || bytes_ > most_bytes_) {
    const auto oldest = passing_.begin();
    forgotten_ = oldest->first;
    bytes_ -= oldest->second;
    changes_.erase(oldest->first);
    passing_.erase(oldest);
  }
}

std::optional<std::vector<ChangeFeed::Change>> ChangeFeed::After(uint64_t number, uint64_t begin,
                                                                 size_t limit) const {
  if (number > last_ || std::max(number, begin) < forgotten_) return std::nullopt;
  std::vector<Change> after;
  for (auto it = changes_.upper_bound(number); it != changes_.end() && after.size() < limit; ++it) {
    after.push_back(it->second);
  }
  return after;
}

uint64_t ChangeFeed::BeforeNewestEvents(
    size_t count, const std::function<bool(const Change& change)>& shows) const {
  if (count == 0) return last_;
  for (auto it = passing_.rbegin(); it != passing_.rend(); ++it) {
    const Change& change = changes_.at(it->first);
    if (change.kind == Kind::kEvent && shows(change) && --count == 0) return it->first - 1;
  }
  return 0;
}

uint64_t ChangeFeed::Listen(std::function<void()> listener) {
  listeners_[next_listener_] = std::move(listener);
  return next_listener_++;
}

void ChangeFeed::Unlisten(uint64_t id) { listeners_.erase(id); }

void ChangeFeed::Tell() {
  if (std::exchange(told_, last_) == last_) return;
  // A copy: a listener may end, and others begin.
  const auto listeners = listeners_;
  for (const auto& [id, listener] : listeners) listener();
}

}  // namespace espalier::server::events
