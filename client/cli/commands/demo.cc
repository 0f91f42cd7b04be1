#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <mutex>
#include <thread>

#include "client/cli/commands/commands.h"
#include "client/cli/demo_jobs.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/job_text.h"
#include "client/cli/local_cluster.h"
#include "client/cli/progress.h"
#include "common/base/status.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(See what Espalier does, in a minute

Examples:
  espalier demo                three workers, real handwritten digits
  espalier demo --workers 1    the same bits: results do not depend on who computes them

Starts a coordinator and workers on this machine, trains a sparse network (SET) next to its dense twin, and
compares them. Everything is stopped and removed at the end.)";

constexpr int kShowEvery = 10;
constexpr auto kCheckEvery = std::chrono::milliseconds(100);

// A folder that is removed at the end, whatever the end is.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "espalier-demo-XXXXXX").string();
    if (mkdtemp(name.data()) != nullptr) path_ = name;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// One of the two jobs as it is watched.
struct Twin {
  Twin(std::string twin_title, const char* twin_yaml)
      : title(std::move(twin_title)), yaml(twin_yaml) {}

  std::string title;
  const char* yaml;
  v1::Job job;
  RunTotals totals;
  std::map<int, v1::RoundSummary> rounds;
  absl::Status ended;
  bool over = false;
};

// Both jobs run at once; a line is shown when both have committed the round.
class Race {
 public:
  Race(Context& context, Twin sparse, Twin dense)
      : context_(context), twins_{std::move(sparse), std::move(dense)} {}

  absl::Status Submit(client::Client& client);
  absl::Status Run(client::Client& client, LocalCluster& cluster, std::stop_token stop);
  const Twin& sparse() const { return twins_[0]; }
  const Twin& dense() const { return twins_[1]; }

 private:
  void OnEvent(Twin& twin, const v1::JobEvent& event);
  void ShowRounds();

  Context& context_;
  std::array<Twin, 2> twins_;
  std::mutex mutex_;
  int shown_ = 0;
};

absl::Status Race::Submit(client::Client& client) {
  for (Twin& twin : twins_) {
    v1::CreateJobRequest request;
    ESPALIER_ASSIGN_OR_RETURN(*request.mutable_spec(), ReadJob(twin.yaml, twin.title, {}));
    ESPALIER_ASSIGN_OR_RETURN(twin.job, client.CreateJob(request));
  }
  context_.out << fmt::format(
                      "\n  {:>5}   {:^21}   {:^21}\n  {:>5}   {:>9} {:>11}   {:>9} {:>11}\n", "",
                      twins_[0].title, twins_[1].title, "round", "loss", "accuracy", "loss",
                      "accuracy")
               << std::flush;
  return absl::OkStatus();
}

void Race::OnEvent(Twin& twin, const v1::JobEvent& event) {
  if (!event.has_round_committed()) return;
  const std::lock_guard lock(mutex_);
  const v1::RoundSummary& summary = event.round_committed().summary();
  twin.totals.Add(summary);
  twin.rounds[summary.round()] = summary;
  ShowRounds();
}

void Race::ShowRounds() {
  const auto cell = [](const v1::RoundSummary& summary) {
    return fmt::format("{:>9.4f} {:>11}", summary.train_loss(),
                       Percent(AccuracyOf(summary).value_or(0)));
  };
  for (;;) {
    const int next = shown_ == 0 ? 1 : (shown_ / kShowEvery + 1) * kShowEvery;
    if (!twins_[0].rounds.contains(next) || !twins_[1].rounds.contains(next)) return;
    shown_ = next;
    context_.out << fmt::format("  {:>5}   {}   {}\n", next, cell(twins_[0].rounds[next]),
                                cell(twins_[1].rounds[next]))
                 << std::flush;
  }
}

absl::Status Race::Run(client::Client& client, LocalCluster& cluster, std::stop_token stop) {
  std::stop_source ended;
  std::stop_callback forward(stop, [&ended] { ended.request_stop(); });
  std::vector<std::jthread> watchers;
  for (Twin& twin : twins_) {
    watchers.emplace_back([&, this] {
      const absl::Status status = client.WatchJob(
          twin.job.name(), 0, [&](const v1::JobEvent& event) { OnEvent(twin, event); },
          [](const absl::Status&) {}, ended.get_token());
      const std::lock_guard lock(mutex_);
      twin.ended = status;
      twin.over = true;
    });
  }
  absl::Status failure;
  for (;;) {
    std::this_thread::sleep_for(kCheckEvery);
    if (const auto gone = cluster.Check()) {
      failure = *gone;
      break;
    }
    const std::lock_guard lock(mutex_);
    if (twins_[0].over && twins_[1].over) break;
  }
  ended.request_stop();
  watchers.clear();
  ESPALIER_RETURN_IF_ERROR(failure);
  for (Twin& twin : twins_) {
    ESPALIER_RETURN_IF_ERROR(twin.ended);
    ESPALIER_ASSIGN_OR_RETURN(twin.job, client.GetJob(twin.job.name()));
    if (twin.job.state() != v1::Job::STATE_SUCCEEDED) {
      return base::FailedPrecondition(twin.job.failure_reason(), twin.job.failure_message());
    }
  }
  return absl::OkStatus();
}

std::string Times(double dense, double sparse) {
  return sparse > 0 ? fmt::format("{:.1f}×", dense / sparse) : "-";
}

void ShowComparison(const Context& context, const Race& race) {
  const Twin& sparse = race.sparse();
  const Twin& dense = race.dense();
  const v1::RoundSummary& s = *sparse.job.history().rbegin();
  const v1::RoundSummary& d = *dense.job.history().rbegin();
  const auto row = [&](const std::string& name, const std::string& a, const std::string& b,
                       const std::string& ratio) {
    context.out << fmt::format("  {:<28} {:>12} {:>12} {:>8}\n", name, a, b, ratio);
  };
  const double rounds = sparse.totals.rounds;
  context.out << fmt::format("\n  {:<28} {:>12} {:>12} {:>8}\n",
                             "after " + std::to_string(s.round()) + " rounds", sparse.title,
                             dense.title, "less");
  row("test accuracy, last round", Percent(s.test_accuracy()), Percent(d.test_accuracy()), "");
  row("test accuracy, best round", Percent(sparse.job.best_accuracy()),
      Percent(dense.job.best_accuracy()), "");
  row("weights of the layers", std::to_string(s.active_weights()),
      std::to_string(d.active_weights()),
      Times(static_cast<double>(d.active_weights()), static_cast<double>(s.active_weights())));
  row("density", fmt::format("{:.3g}", s.density()), fmt::format("{:.3g}", d.density()), "");
  row("bytes on the wire, a round", HumanBytes(static_cast<int64_t>(sparse.totals.bytes / rounds)),
      HumanBytes(static_cast<int64_t>(dense.totals.bytes / rounds)),
      Times(static_cast<double>(dense.totals.bytes), static_cast<double>(sparse.totals.bytes)));
  row("time, a round (both at once)", HumanDuration(absl::Seconds(sparse.totals.seconds / rounds)),
      HumanDuration(absl::Seconds(dense.totals.seconds / rounds)),
      Times(dense.totals.seconds, sparse.totals.seconds));
  row("positions ever active", Percent(s.explored()), Percent(d.explored()), "");
}

constexpr char kExplanation[] = R"(
  The sparse network was sparse from its first step: no worker held a dense weight, gradient or
  optimizer slot. After every round the coordinator averaged the workers' weights, dropped the weakest 30 %
  of each sign and grew as many at random places, which it sent as a seed.
  On a network this small most of a round is messages, not arithmetic; the larger the layers and the lower the
  density, the more of the time goes away with the weights: see docs/benchmarks.md.

  Next:  espalier up --workers 4                                        a cluster that stays
         espalier job submit docs/examples/digits-rigl.yaml --watch     another method on it
         espalier method list                                           what it can run
)";

absl::StatusOr<int> Demo(Context& context, LocalClusterOptions options) {
  const std::stop_token stop = context.stop();
  const TemporaryFolder folder;
  options.data_dir = folder.path();
  ESPALIER_ASSIGN_OR_RETURN(auto cluster, LocalCluster::Start(options));
  context.out << fmt::format(
      "Espalier {}: a coordinator at {} and {} worker processes, each with a share of 1,437\n"
      "handwritten digits that it never sends. They train two networks at the same time:\n",
      ESPALIER_VERSION, cluster->address(), options.workers);
  context.options.client.server = cluster->address();
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  Race race(context, Twin("SET, sparse", kDigitsSetYaml), Twin("dense twin", kDigitsDenseYaml));
  ESPALIER_RETURN_IF_ERROR(race.Submit(*client));
  ESPALIER_RETURN_IF_ERROR(race.Run(*client, *cluster, stop));
  ShowComparison(context, race);
  context.out << kExplanation;
  return kExitDone;
}

}  // namespace

void AddDemo(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<LocalClusterOptions>();
  options->data_root = "data";
  CLI::App* command = parent.add_subcommand("demo", kDescription);
  command->add_option("--workers", options->workers, "Number of workers")
      ->check(CLI::Range(1, 64))
      ->capture_default_str();
  command
      ->add_option("--data-root", options->data_root, "Folder that contains the data set 'digits'")
      ->capture_default_str();
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Demo(context, *options); };
  });
}

}  // namespace espalier::cli
