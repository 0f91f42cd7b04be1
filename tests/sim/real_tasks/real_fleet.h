// Small data sets, one for each kind of model, and running a job on them by the code that worker
// processes run.
//
// Threading: one thread, the test's. Determinism: as Simulation.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tests/sim/simulation.h"
#include "tests/support/real_worker.h"
#include "tests/unit/worker/data/test_files.h"

namespace espalier::test {

inline constexpr int kUsers = 24;  // of the data set "likes"
inline constexpr int kItems = 12;

// "points": 90 rows of 16 features in three classes; "likes": interactions; "counting": a text.
inline const worker::data::DataFolder& SmallData() {
  static const auto* folder = [] {
    auto* made = new worker::data::DataFolder();
    std::string points;
    for (int row = 0; row < 90; ++row) {
      for (int column = 0; column < 16; ++column) {
        points += std::to_string((row * 7 + column * (1 + row % 3)) % 11 * 0.1) + ",";
      }
      points += std::to_string(row % 3) + "\n";
    }
    made->Write("points/train.csv", points);
    made->Write("points/test.csv", points);
    std::string likes;
    for (int user = 0; user < kUsers; ++user) {
      likes += std::to_string(user);
      for (int item = user % 2; item < kItems; item += 2) likes += " " + std::to_string(item);
      likes += "\n";
    }
    made->Write("likes/train.txt", likes);
    std::string text;
    for (int number = 1000; number < 1100; ++number) text += std::to_string(number) + "\n";
    made->Write("counting/train.txt", text);
    made->Write("counting/test.txt", text);
    return made;
  }();
  return *folder;
}

// Busy workers work until the job has ended, or nothing moves any more.
inline void RunToItsEnd(Simulation& sim, const std::vector<std::unique_ptr<RealWorker>>& workers,
                        const std::string& name) {
  for (int idle = 0; sim.State(name) == v1::Job::STATE_RUNNING && idle < 3;) {
    bool worked = false;
    for (const auto& worker : workers) {
      if (!worker->busy()) continue;
      worker->Work();
      worked = true;
      sim.Settle();
    }
    idle = worked ? 0 : idle + 1;
    for (const auto& worker : workers) worker->Heartbeat();
    sim.Tick();
  }
}

}  // namespace espalier::test
