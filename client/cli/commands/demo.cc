#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <thread>

#include "client/cli/commands/commands.h"
#include "client/cli/demo_jobs.h"
#include "client/cli/exit_code.h"
#include "client/cli/format.h"
#include "client/cli/programs/local_cluster.h"
#include "client/cli/progress.h"
#include "client/cli/twin_view.h"
#include "client/cli/watch.h"
#include "client/lib/job_text.h"
#include "common/base/flags.h"
#include "common/base/mutex.h"
#include "common/base/status.h"
#include "common/base/version.h"
#include "common/io/standard_output.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(See what Espalier does, in a minute

Examples:
  espalier demo                three workers, real handwritten digits
  espalier demo --workers 1    the same bits, whoever computes them

Starts a coordinator and workers on this machine, trains a sparse network (SET)
next to its dense twin, and compares them. On a terminal both are shown live,
and the dashboard stays for a look until you press Enter; in a pipe every tenth
round is a line; with -o json both jobs are printed at the end. Run it in the
repository, or say where data/ is. Everything is stopped and removed at the end.)";

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

// The two jobs, which run at once.
class Race {
 public:
  Race(Context& context, client::Client& client) : context_(context), client_(client) {}

  absl::Status Submit();
  // Shows the rounds until both have ended; fails when one fails or a process of `cluster` ends.
  absl::Status Run(LocalCluster& cluster, const std::stop_token& stop);
  // Both, after Run().
  v1::ListJobsResponse jobs() const;
  // Largest memory that a worker process ever took, in both jobs together.
  int64_t peak_worker_memory_bytes() const;

 private:
  static constexpr std::array<const char*, 2> kTitles = {"SET, sparse", "dense twin"};
  static constexpr std::array<const char*, 2> kYaml = {kDigitsSetYaml, kDigitsDenseYaml};

  // Follows one job; runs in a thread of its own.
  void Follow(size_t twin, TwinView& view, const std::stop_token& stop);
  absl::Status WaitForBoth(LocalCluster& cluster);

  Context& context_;
  client::Client& client_;
  std::array<v1::Job, 2> jobs_;  // each is its follower's while that runs
  base::Mutex mutex_;            // guards the view as well
  // How each job was followed to its end.
  std::array<std::optional<absl::Status>, 2> ended_ ABSL_GUARDED_BY(mutex_);
};

absl::Status Race::Submit() {
  for (size_t i = 0; i < jobs_.size(); ++i) {
    v1::CreateJobRequest request;
    ESPALIER_ASSIGN_OR_RETURN(*request.mutable_spec(), client::ReadJob(kYaml[i], kTitles[i], {}));
    ESPALIER_ASSIGN_OR_RETURN(jobs_[i], client_.CreateJob(request));
  }
  return absl::OkStatus();
}

void Race::Follow(size_t twin, TwinView& view, const std::stop_token& stop) {
  const JobObserver observer = {[&](const v1::JobEvent& event) {
                                  const base::MutexLock lock(mutex_);
                                  if (event.has_round_committed())
                                    view.OnRound(twin, event.round_committed().summary());
                                  if (const auto trouble = TroubleOf(event); !trouble.empty())
                                    view.Note(twin, trouble);
                                },
                                [&](const std::string& text) {
                                  const base::MutexLock lock(mutex_);
                                  view.Note(twin, text);
                                }};
  auto job = ObserveJob(client_, jobs_[twin].name(), 0, observer, stop, absl::InfiniteFuture());
  const base::MutexLock lock(mutex_);
  ended_[twin] = job.status();
  if (job.ok()) jobs_[twin] = *std::move(job);
}

absl::Status Race::WaitForBoth(LocalCluster& cluster) {
  for (;;) {
    std::this_thread::sleep_for(kCheckEvery);
    // Without its dashboard it is still a demonstration.
    if (const auto gone = cluster.Check(); gone && gone->name != "dashboard") return gone->status;
    const base::MutexLock lock(mutex_);
    if (!context_.out) return io::Unwritten();
    if (ended_[0].has_value() && ended_[1].has_value()) return absl::OkStatus();
  }
}

absl::Status Race::Run(LocalCluster& cluster, const std::stop_token& stop) {
  // Where data is asked for, nobody looks on.
  std::ostream nowhere(nullptr);
  const bool is_shown = context_.options.format == Format::kTable;
  TwinView view(is_shown ? context_.out : nowhere, is_shown ? context_.out_terminal : Terminal(),
                {kTitles[0], kTitles[1]}, jobs_[0].spec().federation().rounds());
  view.Start();
  std::stop_source ended;
  const std::stop_callback forward(stop, [&ended] { ended.request_stop(); });
  std::vector<std::jthread> followers;
  followers.reserve(jobs_.size());
  for (size_t i = 0; i < jobs_.size(); ++i) {
    followers.emplace_back([this, i, &view, token = ended.get_token()] { Follow(i, view, token); });
  }
  const absl::Status failure = WaitForBoth(cluster);
  ended.request_stop();
  followers.clear();
  if (stop.stop_requested()) {
    return base::MakeError(absl::StatusCode::kCancelled, "INTERRUPTED",
                           "interrupted; the coordinator, its workers and their files are gone");
  }
  ESPALIER_RETURN_IF_ERROR(failure);
  const base::MutexLock lock(mutex_);
  for (size_t i = 0; i < jobs_.size(); ++i) {
    ESPALIER_RETURN_IF_ERROR(*ended_[i]);
    if (jobs_[i].state() != v1::Job::STATE_SUCCEEDED) {
      return base::FailedPrecondition(jobs_[i].failure_reason(), jobs_[i].failure_message());
    }
  }
  view.Compare({jobs_[0], jobs_[1]});
  return absl::OkStatus();
}

v1::ListJobsResponse Race::jobs() const {
  v1::ListJobsResponse jobs;
  jobs.mutable_jobs()->Assign(jobs_.begin(), jobs_.end());
  return jobs;
}

int64_t Race::peak_worker_memory_bytes() const {
  RunTotals totals;
  for (const v1::Job& job : jobs_) {
    for (const v1::RoundSummary& round : job.history()) totals.Add(round);
  }
  return totals.peak_worker_memory_bytes;
}

constexpr char kExplanation[] = R"(
  The sparse network was sparse from its first step: no worker held a dense
  weight, gradient or optimizer slot. After every round the coordinator
  averaged the workers' weights, dropped the weakest 30 % of each sign and grew
  as many at random places, which it sent as a seed.
  Weights ever active: of all that are possible, those that existed in some
  round. Their memory is computed: the values and their momentum, and where the
  sparse ones are. Measured, a worker process took {} at most for program,
  data and both networks.
  On a network this small most of a round is messages, not arithmetic; the
  larger the layers and the lower the density, the more of the time goes away
  with the weights: see docs/benchmarks.md.

  Next:
    espalier up --workers 4                                     your own cluster
    espalier job submit docs/examples/digits-rigl.yaml --watch  another method
    espalier method list                                        what it can run
)";

void Introduce(const Context& context, const LocalCluster& cluster, int workers) {
  context.out << fmt::format(
                     "Espalier {}: a coordinator at {} and {} worker process{},\n"
                     "each with a share of 1,437 handwritten digits that it never sends. They "
                     "train\ntwo networks at the same time:\n",
                     base::Version(), cluster.address(), workers, workers == 1 ? "" : "es")
              << std::flush;
  const std::string url = cluster.dashboard_url().value_or("");
  if (!url.empty()) context.out << fmt::format("Watch them in a browser: {}\n", url) << std::flush;
}

// For a look at the dashboard: until Enter, the end of standard input, or `stop`.
void WaitForEnter(Context& context, const std::string& url, const std::stop_token& stop) {
  context.out << fmt::format("\nThe dashboard shows both jobs: {}\nPress Enter to end.\n", url)
              << std::flush;
  while (!stop.stop_requested()) {
    pollfd input{STDIN_FILENO, POLLIN, 0};
    if (poll(&input, 1, static_cast<int>(kCheckEvery.count())) > 0) return;
  }
}

absl::StatusOr<int> Demo(Context& context, LocalClusterOptions options) {
  const std::stop_token stop = context.stop();
  const TemporaryFolder folder;
  options.data_dir = folder.path();
  ESPALIER_ASSIGN_OR_RETURN(auto cluster, LocalCluster::Start(options));
  const bool is_data = context.options.format != Format::kTable;
  if (!is_data) Introduce(context, *cluster, options.workers);
  context.options.client.server = cluster->address();
  ESPALIER_ASSIGN_OR_RETURN(auto client, context.Connect());
  Race race(context, *client);
  ESPALIER_RETURN_IF_ERROR(race.Submit());
  ESPALIER_RETURN_IF_ERROR(race.Run(*cluster, stop));
  if (context.PrintAsData(race.jobs())) return kExitDone;
  context.out << fmt::format(kExplanation, HumanBytes(race.peak_worker_memory_bytes()));
  const std::string url = cluster->dashboard_url().value_or("");
  if (!url.empty() && context.out_terminal.is_tty && isatty(STDIN_FILENO) != 0) {
    WaitForEnter(context, url, stop);
  }
  return kExitDone;
}

}  // namespace

void AddDemo(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<LocalClusterOptions>();
  auto no_dashboard = std::make_shared<bool>(false);
  options->data_root = "data";
  CLI::App* command = parent.add_subcommand("demo", kDescription);
  command->add_option("--workers", options->workers, "Number of workers, 1 to 64")
      ->check(base::Between(1, 64))
      ->capture_default_str();
  command
      ->add_option("--data-root", options->data_root, "Folder that contains the data set 'digits'")
      ->type_name("FOLDER")
      ->capture_default_str();
  command->add_flag("--no-dashboard", *no_dashboard, "Start no dashboard");
  command->callback([&chosen, options, no_dashboard] {
    chosen = [options, no_dashboard](Context& context) {
      if (*no_dashboard) options->dashboard_listen.clear();
      return Demo(context, *options);
    };
  });
}

}  // namespace espalier::cli
