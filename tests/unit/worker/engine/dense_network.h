// A small network that stores all weights, for tests of what acts on them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <utility>

#include "tests/unit/worker/engine/fixtures.h"
#include "worker/engine/network.h"

namespace espalier::worker::engine {

// 9 – 12 – 5, all weights stored.
inline NetworkSpec DenseSpec() {
  return {.input_features = 9,
          .layers = {{.units = 12, .activation = Activation::kTanh, .dense = true},
                     {.units = 5, .activation = Activation::kLinear, .dense = true}},
          .loss = Loss::kCrossEntropy};
}

inline std::unique_ptr<Network> MakeNetwork(const NetworkSpec& spec) {
  const auto topology = MakeModelTopology(spec, 1);
  auto network = Network::Create(spec, {}, topology, 20, 1, BackendKind::kOneDnn);
  EXPECT_TRUE(network.ok()) << network.status();
  EXPECT_TRUE((*network)->SetValues(RandomFloats(topology->total_stored(), 42)).ok());
  return std::move(network).value();
}

inline OwnedBatch MakeBatch(const NetworkSpec& spec, const Network& network) {
  return {spec.input_features, spec.layers.back().units, 20, network.batch_stride(), 5};
}

}  // namespace espalier::worker::engine
