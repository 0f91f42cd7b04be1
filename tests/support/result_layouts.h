// Layouts of results and their sections, for tests that make results by hand.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "common/tensor/model.h"
#include "common/wire/model_spec/result_sections.h"
#include "server/reduce/reducer.h"

namespace espalier::test {

// A result that is `count` values of the model and nothing else.
inline wire::ResultLayout ValuesLayout(int64_t count) {
  return {
      .values = count, .parts = {{v1::SECTION_KIND_VALUES, {0, count}}}, .weights = {{0, count}}};
}

// scale, shift, running mean and running variance of two channels, after one weight.
inline std::shared_ptr<const tensor::ModelTopology> TopologyWithStatistics() {
  auto layout = std::make_shared<tensor::ModelLayout>();
  layout->push_back({"layers.0.weight", {2, 1}, 2, 1, true});
  for (const char* name : {"weight", "bias", "running_mean", "running_var"}) {
    layout->push_back({std::string("layers.1.") + name, {2}, 2, 1, false});
    layout->back().buffer = layout->size() > 3;
  }
  return std::make_shared<const tensor::ModelTopology>(
      tensor::ModelTopology::Create(layout, std::vector<std::shared_ptr<const tensor::Topology>>(5))
          .value());
}

// The section of a model's values.
inline std::vector<float>& ValuesOf(server::reduce::Reduced& reduced) {
  return reduced.sections[v1::SECTION_KIND_VALUES];
}
inline std::vector<float> ValuesOf(const server::reduce::Reduced& reduced) {
  const auto values = reduced.Section(v1::SECTION_KIND_VALUES);
  return {values.begin(), values.end()};
}

}  // namespace espalier::test
