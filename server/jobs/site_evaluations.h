// What each site of LOCAL data found in an evaluation, for people.
//
// Units:       losses are means over examples.
// Memory:      at most kMostSites entries.
// Threading:   pure function.
// Determinism: depends on what the sites sent, not on its order.
#pragma once

#include <vector>

#include "espalier/v1/job.pb.h"
#include "server/reduce/reducer.h"

namespace espalier::server::jobs {

constexpr int kMostSites = 64;

// `scores`: of the workers by their ids. The round is left to the caller. The worst main metric
// comes first, equal ones by name; sites without test examples come last. What goes beyond
// kMostSites is counted.
v1::SiteEvaluations EvaluationsOf(const std::vector<reduce::Score>& scores,
                                  const v1::JobSpec& spec);

}  // namespace espalier::server::jobs
