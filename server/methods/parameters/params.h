// Declarations of parameters: of any by what it is, and of those that several methods have, so that
// the same parameter has one wording and one range.
//
// Threading: pure functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "common/config/parameters.h"

namespace espalier::server::methods::params {

// min ≤ x ≤ max.
config::Parameter Whole(std::string name, int64_t default_value, int64_t min, int64_t max,
                        std::string doc);
config::Parameter Number(std::string name, double default_value, double min, double max,
                         std::string doc);
// 0 ≤ x ≤ 1.
config::Parameter Share(std::string name, double default_value, std::string doc);
// min < x of what was min ≤ x, and x < max of x ≤ max.
config::Parameter Above(config::Parameter parameter);
config::Parameter Below(config::Parameter parameter);
config::Parameter Switch(std::string name, bool default_value, std::string doc);
// One of `choices`.
config::Parameter Word(std::string name, std::string default_value,
                       std::vector<std::string> choices, std::string doc);

// `schema` and then `more`.
config::ParameterSchema With(config::ParameterSchema schema, const config::ParameterSchema& more);

// density: active weights / weights, and `rest`: of which layers.
config::Parameter Density(double default_value, const std::string& rest);
// update_every: rounds between two of `what`.
config::Parameter UpdateEvery(int64_t default_value, const std::string& what);
config::Parameter StopRound(int64_t default_value);
config::Parameter CandidateSlack(double default_value);
config::Parameter GrowthBatches();
// top_k: where to grow; GrowthOptions::exact.
config::Parameter TopK();

}  // namespace espalier::server::methods::params
