// Link: the way between one worker and the coordinator. What is said in a direction arrives in that
// order, each message when the test lets it, and none while the direction is clogged.
//
// Threading: one thread, the test's.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <deque>
#include <functional>
#include <utility>

namespace espalier::test {

class Link {
 public:
  enum To { kCoordinator, kWorker };

  // `arrive` is called when the message arrives.
  void Say(To to, std::function<void()> arrive) {
    Direction& direction = directions_[to];
    direction.held.push_back(std::move(arrive));
    direction.most_held = std::max(direction.most_held, direction.held.size());
  }
  void Clog(To to) { directions_[to].clogged = true; }
  void Unclog(To to) { directions_[to].clogged = false; }
  bool clogged(To to) const { return directions_[to].clogged; }
  // Whether a message could arrive now.
  bool moves(To to) const { return !clogged(to) && held(to) > 0; }
  // Lets the message arrive that was said first.
  void Deliver(To to) {
    const std::function<void()> arrive = std::move(directions_[to].held.front());
    directions_[to].held.pop_front();
    arrive();
  }
  // What is on its way is lost.
  void Lose(To to) { directions_[to].held.clear(); }
  size_t held(To to) const { return directions_[to].held.size(); }
  size_t most_held(To to) const { return directions_[to].most_held; }

 private:
  struct Direction {
    std::deque<std::function<void()>> held;
    size_t most_held = 0;
    bool clogged = false;
  };
  std::array<Direction, 2> directions_;
};

}  // namespace espalier::test
