// ChangeFeed: what changed among many things, such as all jobs, in the order of their newest changes.
//
// A thing stands in the feed once, with the number of its newest change; a reader who has read up to a
// number is told of all things that changed since, and of the events since. So whoever reads from 0 is
// told of all things that there are, and a slow reader misses states in between, which nobody asks for
// later, and no event. The states themselves are not here: readers look them up.
//
// Bounds:    things stay until they are gone. Of events and of things that are gone, kMostPassing, and of
//            events kMostBytes, are kept; the oldest go first. A reader who has not read them yet begins
//            anew (After() is nullopt).
// Threading: lives on the core executor, listeners are called there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "espalier/v1/events.pb.h"

namespace espalier::server::events {

class ChangeFeed {
 public:
  static constexpr size_t kMostPassing = 20'000;
  static constexpr size_t kMostBytes = 16 << 20;

  struct Change {
    enum class Kind { kChanged, kGone, kEvent };
    uint64_t number = 0;
    Kind kind = Kind::kChanged;
    std::string name;   // "jobs/…", of an event that of its job
    std::string owner;  // who may see it; "" where everybody may
    std::shared_ptr<const v1::NamedEvent> event = nullptr;
  };

  explicit ChangeFeed(size_t most_passing = kMostPassing, size_t most_bytes = kMostBytes)
      : most_passing_(most_passing), most_bytes_(most_bytes) {}

  void Changed(const std::string& name, const std::string& owner);
  void Gone(const std::string& name);
  void Happened(const std::string& name, const std::string& owner, v1::JobEvent event);

  // At most `limit` changes after the one of that number; nullopt: some of them are not kept any more.
  // `begin`: last() as it was when a reader began to read from 0, or the number that another one began
  // after.
  std::optional<std::vector<Change>> After(uint64_t number, uint64_t begin, size_t limit) const;
  // The number after which the newest `count` of the events that `shows` selects come.
  uint64_t BeforeNewestEvents(size_t count,
                              const std::function<bool(const Change& change)>& shows) const;
  // Of the newest change.
  uint64_t last() const { return last_; }

  // `listener` is called when there is something new, until Unlisten().
  uint64_t Listen(std::function<void()> listener);
  void Unlisten(uint64_t id);
  // Calls the listeners if anything changed since they were called. To be called regularly.
  void Tell();

 private:
  void Add(Change change);
  void DropOldest();

  const size_t most_passing_;
  const size_t most_bytes_;
  std::map<uint64_t, Change> changes_;
  std::map<std::string, uint64_t> things_;  // the number of a thing's change
  // Numbers of events and of things that are gone, with their bytes.
  std::map<uint64_t, size_t> passing_;
  size_t bytes_ = 0;
  uint64_t last_ = 0;
  uint64_t forgotten_ = 0;  // of the newest change that is not kept
  uint64_t told_ = 0;
  std::map<uint64_t, std::function<void()>> listeners_;
  uint64_t next_listener_ = 1;
};

}  // namespace espalier::server::events
