// What users did with items: a recommender.
#include <algorithm>
#include <cmath>

#include "client/cli/init/draft.h"
#include "client/cli/init/sections.h"
#include "client/cli/init/shell.h"
#include "common/base/names.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "fmt/format.h"

namespace espalier::cli::init {
namespace {

constexpr int64_t kRounds = 30;
constexpr int64_t kDimensions = 32;
constexpr double kDensity = 0.2;

v1::DataSpec View(v1::Interactions::Split split) {
  v1::DataSpec view;
  view.mutable_interactions()->set_split(split);
  view.mutable_partition()->set_kind(v1::Partition::KIND_USERS);
  view.mutable_partition()->set_shards(1);
  return view;
}

// With the test file that there is, or with a random share of each user's items.
struct Reading {
  Look look;
  bool given = false;
};

absl::StatusOr<Reading> ReadInteractions(const Looker& look) {
  Reading reading;
  const v1::DataSpec given = View(v1::Interactions::SPLIT_GIVEN);
  ESPALIER_ASSIGN_OR_RETURN(reading.look, look(&given));
  reading.given = reading.look.info.problem().empty() && reading.look.info.test_examples() > 0;
  if (reading.given) return reading;
  const v1::DataSpec ratio = View(v1::Interactions::SPLIT_RATIO);
  ESPALIER_ASSIGN_OR_RETURN(reading.look, look(&ratio));
  if (!reading.look.info.problem().empty()) return Unusable(reading.look.info.problem());
  return reading;
}

// One pass over the interactions in a round, or as much of it as a minute allows: each step of
// LightGCN goes over the whole graph.
struct Steps {
  int64_t batch = 0;
  int64_t count = 0;
};

Steps StepsFor(int64_t interactions) {
  constexpr double kOperationsPerInteraction = 512;  // of a step: two layers, forwards and back
  const auto all = static_cast<double>(std::max<int64_t>(interactions, 1));
  Steps steps;
  steps.batch = 128;
  while (steps.batch < 16'384 && steps.batch * 40 < interactions) steps.batch *= 2;
  const double pass = std::ceil(all / static_cast<double>(steps.batch));
  const double most = kMostWork / (kOperationsPerInteraction * all * kRounds);
  steps.count = std::max<int64_t>(1, std::llround(std::min(pass, most)));
  return steps;
}

// An evaluation scores every item for every user.
int64_t RoundsBetweenEvaluations(const v1::DatasetInfo& info) {
  constexpr int64_t kManyScores = 100'000'000;
  return info.users() * info.items() > kManyScores ? kRounds / 2 : 5;
}

std::string DataSection(const Source& source, const Reading& reading) {
  std::string text = fmt::format("data:\n  dataset: {}\n", YamlName(source.name));
  text += reading.given
              ? "  interactions: {split: given}  # the test file holds what is asked for\n"
              : "  # A fifth of each user's items, at random, is kept for testing.\n"
                "  interactions: {split: ratio, test_ratio: 0.2}\n"
                "  # Or the last item of each user, where there are times, and only good ratings:\n"
                "  # interactions: {split: leave_one_out, order_by_time: true, min_rating: 4}\n";
  return text +
         "  # One share, since LightGCN learns from the graph of all users. With several,\n"
         "  # private_users above keeps what is learned about a user with one worker.\n"
         "  partition: {kind: users, shards: 1}";
}

std::string Training(const Steps& steps, bool whole_pass) {
  return fmt::format(
      "training:\n"
      "  batch_size: {}\n"
      "  local_steps: {}  # minibatches in a round{}\n"
      "  # Adam suits embeddings; what it knows of each weight lives on from round to round.\n"
      "  optimizer: {{kind: adam, learning_rate: 0.02, across_rounds: average}}\n"
      "  schedule: {{kind: cosine, final_factor: 0.01}}\n"
      "federation:\n"
      "  rounds: {}{}",
      steps.batch, steps.count, whole_pass ? ", about one pass over the interactions" : "", kRounds,
      whole_pass ? "" : "  # so large a data set needs several times as many to learn all");
}

}  // namespace

absl::StatusOr<Draft> InteractionsJob(const Source& source, const Wishes& wishes,
                                      const Looker& look) {
  ESPALIER_ASSIGN_OR_RETURN(const Reading reading, ReadInteractions(look));
  const v1::DatasetInfo& info = reading.look.info;
  if (info.interactions() == 0) return TooLarge();
  ESPALIER_ASSIGN_OR_RETURN(
      const MethodChoice method,
      ChooseMethod(wishes.method, kDensity, {"dsl", "set", "rigl", "static", "dense"}));
  const int64_t train = reading.given ? info.train_examples() : info.interactions() * 4 / 5;
  const Steps steps = StepsFor(train);
  const bool whole_pass = steps.count * steps.batch >= train;
  const int k = info.items() >= 200 ? 20 : info.items() >= 50 ? 10 : 5;
  Draft draft;
  draft.dataset = info;
  draft.rounds = kRounds;
  const std::string size =
      fmt::format("{} of {} with {}", Counted(info.interactions(), "interaction"),
                  Counted(info.users(), "user"), Counted(info.items(), "item"));
  draft.findings.push_back("It holds " + size + ".");
  draft.findings.push_back(fmt::format(
      "The model ranks items for users; recall@{} is the share of a user's items kept for testing "
      "that are among the first {}.",
      k, k));
  const std::string model = fmt::format(
      "model:\n"
      "  recommender:  # of as many users and items as the data has\n"
      "    # private_users: true\n"
      "    lightgcn: {{dimensions: {}, layers: 2}}  # a row of {} numbers for each user and each "
      "item\n",
      kDimensions, kDimensions);
  draft.file = fmt::format(
      "{}\ndisplay_name: {}, {}\n{}{}\n{}\n{}\n"
      "evaluation:\n"
      "  every_rounds: {}\n"
      "  top_k: [{}]  # how many items are shown to a user\n"
      "  main_metric: recall@{}  # decides on the best round\n"
      "seed: 1\n",
      Heading(source, size), source.name, method.name, model, DataSection(source, reading),
      method.section, Training(steps, whole_pass), RoundsBetweenEvaluations(info), k, k);
  draft.afterwards.push_back(
      {fmt::format("espalier recommend {}-{} --user USER -k 5", base::IdLike(source.name), kRounds),
       "the best items for USER, a user of your file"});
  return draft;
}

}  // namespace espalier::cli::init
