// Layouts of results and their sections, for tests that make results by hand.
#pragma once

#include <cstdint>
#include <vector>

#include "common/wire/model_spec/result_sections.h"
#include "server/reduce/reducer.h"

namespace espalier::test {

// A result that is `count` values of the model and nothing else.
inline wire::ResultLayout ValuesLayout(int64_t count) {
  return {.values = count, .parts = {{v1::SECTION_KIND_VALUES, {0, count}}}};
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
