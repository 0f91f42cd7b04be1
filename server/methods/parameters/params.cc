#include "server/methods/parameters/params.h"

#include <utility>

namespace espalier::server::methods::params {
namespace {

constexpr int64_t kMostRounds = 1'000'000;
constexpr int64_t kMostBatches = 10'000;
constexpr double kMostSlack = 100;

}  // namespace

config::Parameter Whole(std::string name, int64_t default_value, int64_t min, int64_t max,
                        std::string doc) {
  return {.name = std::move(name),
          .default_value = default_value,
          .doc = std::move(doc),
          .min = static_cast<double>(min),
          .max = static_cast<double>(max),
          .choices = {}};
}

config::Parameter Number(std::string name, double default_value, double min, double max,
                         std::string doc) {
  return {.name = std::move(name),
          .default_value = default_value,
          .doc = std::move(doc),
          .min = min,
          .max = max,
          .choices = {}};
}

config::Parameter Share(std::string name, double default_value, std::string doc) {
  return Number(std::move(name), default_value, 0, 1, std::move(doc));
}

config::Parameter Above(config::Parameter parameter) {
  parameter.min_exclusive = true;
  return parameter;
}

config::Parameter Below(config::Parameter parameter) {
  parameter.max_exclusive = true;
  return parameter;
}

config::Parameter Switch(std::string name, bool default_value, std::string doc) {
  return {.name = std::move(name),
          .default_value = default_value,
          .doc = std::move(doc),
          .choices = {}};
}

config::Parameter Word(std::string name, std::string default_value,
                       std::vector<std::string> choices, std::string doc) {
  return {.name = std::move(name),
          .default_value = std::move(default_value),
          .doc = std::move(doc),
          .choices = std::move(choices)};
}

config::ParameterSchema With(config::ParameterSchema schema, const config::ParameterSchema& more) {
  schema.insert(schema.end(), more.begin(), more.end());
  return schema;
}

config::Parameter Density(double default_value, const std::string& rest) {
  return Above(Share("density", default_value, "Active weights / weights, " + rest));
}

config::Parameter UpdateEvery(int64_t default_value, const std::string& what) {
  return Whole("update_every", default_value, 1, kMostRounds, "Rounds between two " + what + ".");
}

config::Parameter StopRound(int64_t default_value) {
  return Whole("stop_round", default_value, 1, kMostRounds,
               "Round from which on the structure stays; the job's rounds if they are fewer.");
}

config::Parameter CandidateSlack(double default_value) {
  return Number("candidate_slack", default_value, 1, kMostSlack,
                "Growth candidates that each worker reports per weight to be grown.");
}

config::Parameter GrowthBatches() {
  return Whole("growth_batches", 1, 1, kMostBatches,
               "Minibatches over which a worker averages the growth gradient.");
}

config::Parameter TopK() {
  return Word("top_k", "lists", {"lists", "exact"},
              "Where to grow: by the participants' lists, in which a position that is just below "
              "everyone's list is missed (lists), or by the exact largest gradients of the "
              "averaged model, in further steps (exact).");
}

}  // namespace espalier::server::methods::params
