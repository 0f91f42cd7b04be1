// Quarantine: which workers are given no tasks for a while, because of what they did.
//
// Strikes:     a result that was refused for a reason that no honest worker gives is a strike
//              (server/admission/update_gate.h says which reasons are). The same result again, by
//              its update id, is not another one. kStrikes within kStrikesWithin begin a quarantine.
// Flapping:    a session that ended without purpose, and in which no result of the worker was good,
//              is a short life, unless the worker had a task that others were lost with. More than kShortLives within kShortLivesWithin begin a quarantine
//              when the worker registers again.
// Time:        the first quarantine is kFirst, each further one twice the one before, kLongest at
//              most. After kGoodTime without a strike, a short life or a quarantine all is forgotten.
// Ids:         a worker is known by its id, so that it does not help to connect again. How hard it is
//              to come under another id is a matter of certificates.
// Bounds:      kMost workers of whom something is known; the quarter that was good for longest is
//              forgotten for others.
// Threading:   lives on the core executor; no locks. Time is the injected clock's Elapsed().
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/time/time.h"
#include "common/base/clock.h"

namespace espalier::server::scheduler {

class Quarantine {
 public:
  static constexpr int kStrikes = 3;
  static constexpr absl::Duration kStrikesWithin = absl::Hours(1);
  static constexpr int kShortLives = 5;
  static constexpr absl::Duration kShortLivesWithin = absl::Minutes(2);
  static constexpr absl::Duration kFirst = absl::Minutes(1);
  static constexpr absl::Duration kLongest = absl::Hours(1);
  static constexpr absl::Duration kGoodTime = absl::Hours(6);
  static constexpr size_t kMost = 10'000;

  struct Term {
    absl::Duration until;  // of Clock::Elapsed()
    std::string why;       // a sentence for people
  };

  explicit Quarantine(const base::Clock& clock) : clock_(clock) {}

  struct Verdict {
    bool counted = false;  // it is a strike of its own
    bool begins = false;   // with it a quarantine begins, or begins anew
  };
  Verdict Strike(const std::string& worker, const std::string& update_id,
                 const std::string& reason);
  // A result of the worker was good. It takes no strike back.
  void GoodResult(const std::string& worker);
  void SessionEnded(const std::string& worker);
  // The worker registers. `is_its_own`: whether a session that ended then ended for the worker's
  // sake, and not with those of others. Returns whether a quarantine begins, or begins anew.
  bool Registers(const std::string& worker,
                 const std::function<bool(absl::Duration at)>& is_its_own);

  // The quarantine that the worker is in; nullopt: none.
  std::optional<Term> Find(const std::string& worker) const;
  // Ends it, and nothing is known of the worker any more.
  void Forget(const std::string& worker) { records_.erase(worker); }

 private:
  struct Record {
    std::deque<absl::Duration> strikes;
    std::string struck_id;  // of the last update that was a strike
    std::deque<absl::Duration> short_lives;
    int quarantines = 0;
    absl::Duration until = -absl::InfiniteDuration();
    std::string why;
    absl::Duration last = -absl::InfiniteDuration();  // that something was noted
  };

  bool IsForgiven(const Record& record) const;
  // What is known of the worker, to which something is to be added.
  Record& Of(const std::string& worker);
  void MakeRoom();
  void Begin(Record& record, std::string why) const;

  const base::Clock& clock_;
  std::map<std::string, Record> records_;
};

}  // namespace espalier::server::scheduler
