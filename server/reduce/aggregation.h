// Aggregation: how the updates of a step become one. Plain values.
#pragma once

#include <cstdint>

namespace espalier::server::reduce {

enum class Rule {
  kMean,         // weighted by examples
  kMedian,       // of each value; Yin et al. 2018, definition 1
  kTrimmedMean,  // of each value, without the largest and smallest; Yin et al. 2018, definition 2
  kKrum,         // the update nearest to its neighbours; Blanchard et al. 2017, section 4
  kMultiKrum,    // mean of the best by Krum's score; Blanchard et al. 2017, section 5
};

struct Aggregation {
  Rule rule = Rule::kMean;
  double trim_fraction = 0.1;  // kTrimmedMean: share cut off at each end, rounded up
  int64_t byzantine = 0;       // kKrum, kMultiKrum: updates that may be hostile
  int64_t selected = 0;        // kMultiKrum: updates averaged; 0 = all but `byzantine`
  double clip_norm = 0;        // largest L2 norm of an update's difference from the model; 0 = any
  bool keep_updates = false;   // the result also has each participant's weights
};

// Hostile updates among `participants` that the rule withstands.
int64_t ToleratedBy(const Aggregation& aggregation, int64_t participants);

}  // namespace espalier::server::reduce
