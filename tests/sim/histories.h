// Histories: jobs of several kinds, and what of them must be the same however they are disturbed.
//
// Every kind waits in each step for all participants, so that its model and its events do not depend
// on when updates arrive.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "tests/sim/simulation.h"

namespace espalier::test {

// Jobs of these kinds need so many workers.
constexpr int kWorkers = 3;

inline std::vector<std::string> KindsOfJobs() {
  return {"set",         "large", "cohort", "evaluated", "momentum",
          "corrections", "local", "static", "imp"};
}

// A long run: ESPALIER_SEEDS of each kind of job, from ESPALIER_FIRST_SEED on.
inline uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::stoull(text);
}

inline v1::JobSpec SpecOf(const std::string& kind) {
  v1::JobSpec spec = SmallSpec();
  auto& parameters = *spec.mutable_method()->mutable_parameters();
  if (kind == "large") return LargeSpec();
  if (kind == "cohort") spec.mutable_federation()->set_cohort_size(2);
  if (kind == "evaluated") {
    spec.mutable_evaluation()->set_every_rounds(1);
    spec.mutable_evaluation()->set_central(true);
  }
  if (kind == "momentum") {
    spec.mutable_aggregation()->set_server_optimizer(v1::Aggregation::SERVER_OPTIMIZER_MOMENTUM);
  }
  if (kind == "corrections") spec.mutable_training()->set_control_variates(true);
  if (kind == "local") {
    spec.mutable_data()->mutable_partition()->set_kind(v1::Partition::KIND_LOCAL);
    spec.mutable_data()->mutable_partition()->set_shards(0);
    spec.mutable_federation()->set_min_workers(kWorkers);
  }
  if (kind == "static") spec.mutable_method()->set_name(kind);
  if (kind == "imp") {
    spec.mutable_method()->set_name("imp");
    parameters.clear();
    parameters["levels"].set_int_value(2);
  }
  return spec;
}

// What must be the same however often the coordinator was killed, or the job paused.
inline std::vector<std::string> WithoutTimesAndBytes(const std::vector<v1::JobEvent>& events) {
  std::vector<std::string> texts;
  for (v1::JobEvent event : events) {
    event.clear_time();
    event.clear_sequence();
    const v1::Job::State state = event.state_changed().state();
    if (state == v1::Job::STATE_PAUSED || state == v1::Job::STATE_RUNNING ||
        state == v1::Job::STATE_PENDING) {
      continue;
    }
    if (event.has_round_committed()) {
      v1::RoundSummary& summary = *event.mutable_round_committed()->mutable_summary();
      summary.clear_duration();
      summary.clear_bytes_sent();
      summary.clear_bytes_received();
      summary.clear_dense_bytes();
    }
    if (event.has_prelude_step()) {
      event.mutable_prelude_step()->clear_duration();
      event.mutable_prelude_step()->clear_bytes_sent();
      event.mutable_prelude_step()->clear_bytes_received();
    }
    texts.push_back(event.ShortDebugString());
  }
  return texts;
}

// The events of a job are those of the same job that nobody disturbed.
inline void ExpectHistory(const std::vector<v1::JobEvent>& events,
                          const std::vector<v1::JobEvent>& undisturbed) {
  const auto texts = WithoutTimesAndBytes(events);
  const auto expected = WithoutTimesAndBytes(undisturbed);
  for (size_t i = 0; i < std::min(texts.size(), expected.size()); ++i) {
    ASSERT_EQ(texts[i], expected[i]) << "event " << i;
  }
  ASSERT_EQ(texts.size(), expected.size());
}

// What was shown of a job is still there.
inline void ExpectToBeginWith(const std::vector<v1::JobEvent>& shown,
                              const std::vector<v1::JobEvent>& events) {
  ASSERT_GE(events.size(), shown.size());
  for (size_t i = 0; i < shown.size(); ++i) {
    ASSERT_EQ(events[i].SerializeAsString(), shown[i].SerializeAsString());
  }
}

}  // namespace espalier::test
