// Links between workers and the coordinator that clog and are cut, while coordinators and workers
// are killed: the job ends with the model and the events of an undisturbed run, an update counts
// once, and whoever asks what became of it is told the same again and again. A long run:
// ESPALIER_SEEDS of each kind of job, from ESPALIER_FIRST_SEED on.
//
// Swizzle-clogging, as the authors of FoundationDB call it: the links of a random subset clog one
// after the other, and are unclogged in another order. A failure prints the seed that repeats it.
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <filesystem>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "common/base/rng.h"
#include "tests/sim/histories.h"
#include "tests/sim/simulation.h"
#include "tests/support/link.h"
#include "tests/support/linked_worker.h"

namespace espalier::test {
namespace {

constexpr Link::To kDirections[] = {Link::kCoordinator, Link::kWorker};

v1::JobSpec PatientSpec(const std::string& kind) {
  v1::JobSpec spec = SpecOf(kind);
  spec.mutable_federation()->set_max_retries(100);
  return spec;
}

// How often what happened.
struct Counts {
  int coordinators = 0;
  int clogs = 0;
  int one_way = 0;  // of the clogs
  int cuts = 0;
  int deaths = 0;      // of workers
  int repeats = 0;     // of updates
  int duplicates = 0;  // acknowledgements of updates that had been counted before
  int reassigned = 0;

  void Add(const Counts& other) {
    coordinators += other.coordinators;
    clogs += other.clogs;
    one_way += other.one_way;
    cuts += other.cuts;
    deaths += other.deaths;
    repeats += other.repeats;
    duplicates += other.duplicates;
    reassigned += other.reassigned;
  }
};

// What can stand still: a link in one or both directions, or an executor of the coordinator.
struct Place {
  bool is_link = false;
  std::function<void(uint64_t ways)> clog;  // 0: both ways, 1: answers alone, 2: requests alone
  std::function<void()> unclog;
};

// A random subset of the places clogs, one after the other, and is unclogged in another order.
class Swizzle {
 public:
  Swizzle(std::vector<Place> places, base::Rng& rng, Counts& counts) {
    Shuffle(places, rng);
    places.resize(1 + rng.Below(places.size()));
    for (const Place& place : places) {
      const uint64_t ways = rng.Below(3);
      if (place.is_link) ++counts.clogs;
      if (place.is_link && ways != 0) ++counts.one_way;
      Then(rng.Below(4), [clog = place.clog, ways] { clog(ways); });
    }
    // Some clogs are shorter than the timeout of heartbeats, others longer.
    Then(rng.Below(20), [] {});
    Shuffle(places, rng);
    for (const Place& place : places) Then(rng.Below(4), place.unclog);
    Then(rng.Below(10), [] {});
  }

  // A second passes. False: it is over.
  bool Tick() {
    while (!steps_.empty() && steps_.front().first == 0) {
      steps_.front().second();
      steps_.pop_front();
    }
    if (steps_.empty()) return false;
    --steps_.front().first;
    return true;
  }

 private:
  void Then(uint64_t pause, std::function<void()> what) {
    steps_.emplace_back(pause, std::move(what));
  }
  static void Shuffle(std::vector<Place>& places, base::Rng& rng) {
    for (size_t i = places.size(); i > 1; --i) std::swap(places[i - 1], places[rng.Below(i)]);
  }

  std::deque<std::pair<uint64_t, std::function<void()>>> steps_;
};

// What coordinators said to workers, held against what they said before.
class Promises {
 public:
  const Witness& witness() const { return witness_; }
  int duplicates() const { return duplicates_; }

 private:
  using Lease = std::tuple<std::string, uint64_t, uint64_t>;

  static Lease LeaseOf(const std::string& task_id, const v1::Epoch& epoch) {
    return {task_id, epoch.incarnation(), epoch.counter()};
  }

  void Given(const v1::Task& task) {
    const std::string what = worker::session::KeyOf(task);
    EXPECT_FALSE(counted_.contains(what))
        << "asked for again: " << task.run() << "/" << task.round() << "/" << task.participant();
    leases_[LeaseOf(task.task_id(), task.epoch())] = what;
  }

  void Answered(const v1::PartialHeader& header, const absl::Status& status, bool duplicate) {
    const std::string& what = leases_.at(LeaseOf(header.task_id(), header.epoch()));
    const std::string& id = header.update_id();
    if (status.ok()) {
      EXPECT_FALSE(refused_.contains(id)) << id << " counts after it was refused";
      EXPECT_EQ(counted_.emplace(what, id).first->second, id) << "counted twice";
      if (duplicate) ++duplicates_;
      return;
    }
    EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
    const auto counted = counted_.find(what);
    EXPECT_TRUE(counted == counted_.end() || counted->second != id) << id << ": " << status;
    refused_.insert(id);
  }

  const Witness witness_{[this](const v1::Task& task) { Given(task); },
                         [this](const v1::PartialHeader& header, const absl::Status& status,
                                bool duplicate) { Answered(header, status, duplicate); }};
  std::map<Lease, std::string> leases_;         // what each was for
  std::map<std::string, std::string> counted_;  // by what it is: the id of the update
  std::set<std::string> refused_;               // ids
  int duplicates_ = 0;
};

// Coordinators on one disk, one after the other, and workers that outlive them.
class World {
 public:
  World(uint64_t seed, const std::string& kind) : rng_(base::StreamKey(seed, "links of " + kind)) {
    for (int i = 0; i < kWorkers; ++i) {
      links_.push_back(std::make_unique<Link>());
      workers_.push_back(std::make_unique<LinkedWorker>(
          "w" + std::to_string(i), "toy", *links_.back(), door_, promises_.witness(), seed));
    }
    Begin();
  }

  // `name`: of the job.
  void Start(const v1::JobSpec& spec, const std::string& name) {
    Calm(10);
    for (const auto& worker : workers_) ASSERT_TRUE(worker->connected());
    v1::CreateJobRequest request;
    *request.mutable_spec() = spec;
    request.set_job_id(name.substr(std::string("jobs/").size()));
    life_->jobs.Create(request, "", [this](const server::jobs::JobManager::Created& created) {
      ASSERT_TRUE(created.job.ok()) << created.job.status();
      name_ = created.job->name();
    });
    for (int i = 0; i < 10'000 && name_.empty(); ++i) Step();
    ASSERT_FALSE(name_.empty());
  }

  // Disturbs the job until it has ended, or as much as was drawn has happened.
  void Play() {
    uint64_t kills = rng_.Below(5);
    uint64_t cuts = rng_.Below(4);
    uint64_t deaths = rng_.Below(3);
    uint64_t swizzles = 1 + rng_.Below(3);
    for (int steps = 0; !Ended(); ++steps) {
      ASSERT_LT(steps, 200'000) << "it does not end";
      if (swizzle_ == nullptr && swizzles > 0) {
        --swizzles;
        swizzle_ = std::make_unique<Swizzle>(Places(), rng_, counts_);
      }
      Step();
      if (rng_.Below(25) != 0) continue;
      LinkedWorker& worker = *workers_[rng_.Below(workers_.size())];
      const uint64_t what = rng_.Below(3);
      if (what == 0 && kills > 0) {
        --kills;
        ASSERT_NO_FATAL_FAILURE(Kill());
      } else if (what == 1 && cuts > 0) {
        --cuts;
        ++counts_.cuts;
        worker.Cut(rng_.Below(2) == 0);
      } else if (what == 2 && deaths > 0) {
        --deaths;
        ++counts_.deaths;
        worker.Die();
      }
    }
  }

  // Nothing of the job is left on the links, with the workers or with the coordinator, and nothing
  // piles up for workers that do not hear.
  void ExpectNothingLeft() {
    swizzle_ = nullptr;
    Unclog();
    Calm(40);
    for (size_t i = 0; i < workers_.size(); ++i) {
      for (const Link::To to : kDirections) {
        EXPECT_EQ(links_[i]->held(to), 0U);
        EXPECT_LE(links_[i]->most_held(to), static_cast<size_t>(life_->limits.max_session_queue));
      }
      EXPECT_TRUE(workers_[i]->connected());
      EXPECT_TRUE(workers_[i]->idle());
    }
    for (const v1::Worker& worker : life_->fleet.List()) EXPECT_EQ(worker.task(), "");
    for (Link* link : Links()) {
      for (const Link::To to : kDirections) link->Clog(to);
    }
    Calm(60);
    // That it counts as lost.
    for (Link* link : Links()) EXPECT_LE(link->held(Link::kWorker), 1U);
    Unclog();
    Calm(40);
    for (const auto& worker : workers_) EXPECT_TRUE(worker->connected());
    const std::filesystem::directory_iterator files(disk_.folder + "/parts");
    EXPECT_EQ(std::distance(begin(files), end(files)), 0) << "files that nothing names";
  }

  Simulation& now() { return *life_; }
  const std::string& name() const { return name_; }
  Counts counts() const {
    Counts counts = counts_;
    for (const auto& worker : workers_) counts.repeats += worker->repeats();
    counts.duplicates = promises_.duplicates();
    return counts;
  }

 private:
  std::vector<Link*> Links() {
    std::vector<Link*> links;
    for (const auto& link : links_) links.push_back(link.get());
    return links;
  }

  std::vector<Place> Places() {
    std::vector<Place> places;
    for (Link* link : Links()) {
      places.push_back({.is_link = true,
                        .clog =
                            [link](uint64_t ways) {
                              if (ways != 1) link->Clog(Link::kCoordinator);
                              if (ways != 2) link->Clog(Link::kWorker);
                            },
                        .unclog =
                            [link] {
                              for (const Link::To to : kDirections) link->Unclog(to);
                            }});
    }
    for (bool* stands : {&pool_stands_, &writer_stands_}) {
      places.push_back({.clog = [stands](uint64_t) { *stands = true; },
                        .unclog = [stands] { *stands = false; }});
    }
    return places;
  }

  void Unclog() {
    for (const Place& place : Places()) place.unclog();
  }

  bool Ended() { return life_->Find(name_)->events()->closed(); }

  void Begin() {
    ++counts_.coordinators;
    life_ = std::make_unique<Simulation>(disk_, static_cast<uint64_t>(counts_.coordinators));
    life_->clock.Advance(absl::Seconds(seconds_));
    door_ = std::make_shared<Door>(Door{life_->fleet, life_->jobs, life_->blobs});
    life_->jobs.Tick();
  }

  void Kill() {
    const auto shown = life_->Events(name_);
    door_ = nullptr;
    life_ = nullptr;
    for (const auto& worker : workers_) worker->CoordinatorDied();
    // Nobody is there for a while.
    const uint64_t steps = rng_.Below(100);
    for (uint64_t i = 0; i < steps; ++i) Step();
    Begin();
    ExpectToBeginWith(shown, life_->Events(name_));
  }

  // Something that can happen happens.
  void Step() {
    const std::function<bool()> kinds[] = {
        [this] { return Deliver(); },
        [this] { return Run(); },
        [this] { return workers_[rng_.Below(workers_.size())]->Act(); },
    };
    const uint64_t draw = rng_.Below(10);
    if (draw < 9) {
      const size_t first = draw < 4 ? 0 : draw < 7 ? 1 : 2;
      for (size_t i = 0; i < std::size(kinds); ++i) {
        if (kinds[(first + i) % std::size(kinds)]()) return;
      }
    }
    Tick();
  }

  // Something that was posted runs.
  bool Run() {
    if (life_ == nullptr) return false;
    std::vector<ManualExecutor*> executors = {&life_->core};
    if (!pool_stands_) executors.push_back(&life_->pool);
    if (!writer_stands_) executors.push_back(&life_->writer);
    const size_t first = rng_.Below(executors.size());
    for (size_t i = 0; i < executors.size(); ++i) {
      if (executors[(first + i) % executors.size()]->RunOne()) return true;
    }
    return false;
  }

  // A message arrives on a random link, if one can.
  bool Deliver() {
    std::vector<std::pair<Link*, Link::To>> ways;
    for (const auto& link : links_) {
      for (const Link::To to : kDirections) {
        if (link->moves(to)) ways.emplace_back(link.get(), to);
      }
    }
    if (ways.empty()) return false;
    const auto [link, to] = ways[rng_.Below(ways.size())];
    link->Deliver(to);
    return true;
  }

  void Tick() {
    ++seconds_;
    if (swizzle_ != nullptr && !swizzle_->Tick()) swizzle_ = nullptr;
    for (const auto& worker : workers_) worker->Tick();
    if (life_ == nullptr) return;
    life_->clock.Advance(absl::Seconds(1));
    life_->jobs.Tick();
  }

  // Time passes, and all that can happen in each second happens.
  void Calm(int seconds) {
    for (int i = 0; i < seconds; ++i) {
      Tick();
      for (bool more = true; more;) {
        more = Deliver();
        more |= Run();
        for (const auto& worker : workers_) more |= worker->Act();
      }
    }
  }

  base::Rng rng_;
  Disk disk_;
  Promises promises_;
  std::vector<std::unique_ptr<Link>> links_;
  std::shared_ptr<Door> door_;
  std::vector<std::unique_ptr<LinkedWorker>> workers_;
  std::unique_ptr<Simulation> life_;
  std::unique_ptr<Swizzle> swizzle_;
  bool pool_stands_ = false;
  bool writer_stands_ = false;
  std::string name_;
  int seconds_ = 0;  // since the first coordinator began
  Counts counts_;
};

std::vector<v1::JobEvent> WithoutLosses(std::vector<v1::JobEvent> events) {
  std::erase_if(events, [](const v1::JobEvent& event) {
    if (!event.has_task_reassigned()) return false;
    const std::string& reason = event.task_reassigned().reason();
    EXPECT_TRUE(reason == "HEARTBEAT_TIMEOUT" || reason == "WORKER_DISCONNECTED") << reason;
    return true;
  });
  return events;
}

// Rounds begin and end in their order, each once.
void CheckRounds(const std::vector<v1::JobEvent>& events) {
  std::map<std::string, int> started;
  std::map<std::string, int> committed;
  for (size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].sequence(), static_cast<int64_t>(i) + 1);
    if (events[i].has_round_started()) {
      const v1::RoundStarted& round = events[i].round_started();
      EXPECT_EQ(round.round(), ++started[round.run()]);
    }
    if (events[i].has_round_committed()) {
      const std::string& run = events[i].round_committed().summary().run();
      EXPECT_EQ(++committed[run], started[run]);
    }
  }
}

// Whether the same participants took part in each round. With LOCAL data, participants are the
// workers that are connected when the round begins.
bool SameParticipants(const std::vector<v1::JobEvent>& events,
                      const std::vector<v1::JobEvent>& others) {
  const auto participants = [](const std::vector<v1::JobEvent>& all) {
    std::vector<int64_t> counts;
    for (const v1::JobEvent& event : all) {
      if (event.has_round_started()) counts.push_back(event.round_started().participants());
    }
    return counts;
  };
  return participants(events) == participants(others);
}

class LinksSimTest : public testing::TestWithParam<std::string> {};

TEST_P(LinksSimTest, JobEndsWithTheSameBitsAndEventsWhicheverLinksClog) {
  const v1::JobSpec spec = PatientSpec(GetParam());
  Simulation calm;
  calm.AddWorkers(kWorkers);
  const std::string undisturbed = calm.Start(spec);
  calm.Run(undisturbed);
  const v1::Job expected = calm.Job(undisturbed);
  ASSERT_EQ(expected.state(), v1::Job::STATE_SUCCEEDED) << expected.failure_message();
  const auto calm_events = calm.Events(undisturbed);
  const uint64_t first = FromEnvironment("ESPALIER_FIRST_SEED", 1);
  const uint64_t seeds = FromEnvironment("ESPALIER_SEEDS", 16);
  Counts all;
  uint64_t same = 0;
  for (uint64_t seed = first; seed < first + seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    World world(seed, GetParam());
    ASSERT_NO_FATAL_FAILURE(world.Start(spec, undisturbed));
    ASSERT_NO_FATAL_FAILURE(world.Play());
    const v1::Job job = world.now().Job(world.name());
    ASSERT_EQ(job.state(), v1::Job::STATE_SUCCEEDED) << job.failure_message();
    const auto events = world.now().Events(world.name());
    const auto without_losses = WithoutLosses(events);
    CheckRounds(events);
    if (GetParam() != "local" || SameParticipants(events, calm_events)) {
      ++same;
      EXPECT_EQ(job.model_hash(), expected.model_hash());
      ExpectHistory(without_losses, calm_events);
    }
    world.ExpectNothingLeft();
    Counts counts = world.counts();
    counts.reassigned = static_cast<int>(events.size() - without_losses.size());
    all.Add(counts);
    if (HasFailure()) return;
  }
  std::cout << GetParam() << ": " << seeds << " seeds, " << same << " as undisturbed, "
            << all.coordinators << " coordinators, " << all.clogs << " clogs, " << all.one_way
            << " one way, " << all.cuts << " cuts, " << all.deaths << " workers killed, "
            << all.repeats << " updates sent again, " << all.duplicates << " acknowledged again, "
            << all.reassigned << " tasks reassigned" << std::endl;
}

INSTANTIATE_TEST_SUITE_P(Kinds, LinksSimTest, testing::ValuesIn(KindsOfJobs()),
                         [](const auto& param) { return param.param; });

}  // namespace
}  // namespace espalier::test
