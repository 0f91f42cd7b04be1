#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/cli/output.h"
#include "client/cli/programs/local_cluster.h"
#include "common/base/flags.h"
#include "common/base/printable.h"
#include "common/base/status.h"
#include "common/config/text.h"
#include "common/io/standard_output.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Run a local cluster in the foreground

Examples:
  espalier up --workers 4                       until Ctrl-C
  espalier up --data-root ~/data --threads 2    own data, two threads a worker

Starts a coordinator, workers and the dashboard as child processes, which end
with this command.
Jobs, checkpoints and logs stay in --data-dir: jobs that have not ended go on
with the next one. A data set is a folder under --data-root; what cannot be used
there is said, with the reason. Only this machine can connect, without TLS. With
-o json the addresses are one line of JSON.)";

constexpr auto kCheckEvery = std::chrono::milliseconds(200);

struct UpOptions {
  LocalClusterOptions cluster;
  int port = 7070;
  int metrics_port = 7071;
  int dashboard_port = 7080;
  bool no_dashboard = false;
};

// What scripts wait for, in one write.
void Announce(const Context& context, const LocalCluster& cluster) {
  if (context.options.format == Format::kTable) {
    const std::string& url = cluster.dashboard_url().value_or("");
    context.out << fmt::format("listening address={} metrics={}{}\n", cluster.address(),
                               cluster.metrics_address(), url.empty() ? "" : " dashboard=" + url)
                << std::flush;
    return;
  }
  Json json;
  json["address"] = cluster.address();
  json["metrics_address"] = cluster.metrics_address();
  json["worker_metrics_addresses"] = cluster.worker_metrics_addresses();
  json["dashboard_url"] = cluster.dashboard_url().value_or("");
  json["log_dir"] = cluster.log_dir();
  // One line, which both languages read alike.
  context.out << ToJson(json, Layout::kLine) << std::flush;
}

// What is running, for people.
void Describe(const Context& context, const LocalCluster& cluster, int workers) {
  context.err << fmt::format(
      "A coordinator and {} workers are running; logs: {}\n"
      "  Submit a job:  espalier --server {} job submit docs/examples/digits-set.yaml --watch\n",
      workers, cluster.log_dir(), cluster.address());
  const absl::StatusOr<std::string>& url = cluster.dashboard_url();
  if (url.ok() && !url->empty()) context.err << fmt::format("  Dashboard:     {}\n", *url);
  context.err << fmt::format("  Metrics:       http://{}/metrics\n", cluster.metrics_address());
  for (size_t i = 0; i < cluster.worker_metrics_addresses().size(); ++i) {
    context.err << fmt::format("  worker-{}:      http://{}/metrics\n", i + 1,
                               cluster.worker_metrics_addresses()[i]);
  }
  if (!url.ok()) {
    context.err << "The dashboard did not start; training does not need it.\n"
                << ErrorText(url.status(), Format::kTable, context.err_terminal);
  }
  context.err << "Ctrl-C stops everything.\n" << std::flush;
}

// A data set that no worker can use, on a line.
std::string UnusableLine(const v1::DatasetInfo& info) {
  constexpr std::string_view kBegin = "data set ";
  const std::string& problem = info.problem();
  // Problems of files name the data set themselves.
  const bool named = problem.starts_with(fmt::format("{}{}", kBegin, info.name()));
  const std::string line =
      named ? problem.substr(kBegin.size()) : fmt::format("{}: {}", info.name(), problem);
  return fmt::format("  {}\n", base::Printable(line));
}

// Says once which data sets cannot be used, and why, when all workers are there.
class DataReport {
 public:
  DataReport(Context& context, const LocalClusterOptions& cluster)
      : context_(context), data_root_(cluster.data_root), workers_(cluster.workers) {}

  absl::Status Connect(const std::string& address) {
    client::ClientOptions options;
    options.server = address;
    options.timeout = absl::Seconds(2);
    ESPALIER_ASSIGN_OR_RETURN(client_, client::Client::Create(std::move(options)));
    return absl::OkStatus();
  }

  // Asks again until all workers are there, kMostTries times, and says what those say that are.
  void TellWhenKnown() {
    if (client_ == nullptr) return;
    const auto workers = client_->ListWorkers(kMaxWorkers);
    const bool all = workers.ok() && workers->workers_size() >= workers_;
    if (!all && ++tries_ < kMostTries) return;
    client_ = nullptr;
    if (workers.ok()) Tell(*workers);
  }

 private:
  static constexpr size_t kMaxWorkers = 256;
  static constexpr size_t kShown = 5;
  static constexpr int kMostTries = 100;

  void Tell(const v1::ListWorkersResponse& workers) {
    std::map<std::string, std::string> lines;  // by data set: all workers have the same files
    bool any = false;
    for (const v1::Worker& worker : workers.workers()) {
      for (const v1::DatasetInfo& info : worker.datasets()) {
        const bool unusable = !info.problem().empty() && info.format().empty();
        any = any || !unusable;
        if (unusable) lines.emplace(info.name(), UnusableLine(info));
      }
    }
    if (!any && lines.empty()) {
      context_.err << fmt::format("There is no data set in {} yet: a data set is a folder there.\n",
                                  config::Quoted(data_root_));
    }
    if (!lines.empty()) {
      context_.err
          << "Not usable as they are; espalier init FOLDER writes a job that helps with tables:\n";
    }
    size_t shown = 0;
    for (const auto& [name, line] : lines) {
      if (shown++ == kShown) break;
      context_.err << line;
    }
    if (lines.size() > kShown) {
      context_.err << fmt::format("  {} more: espalier dataset list\n", lines.size() - kShown);
    }
    context_.err << std::flush;
  }

  Context& context_;
  const std::string data_root_;
  const int workers_;
  int tries_ = 0;
  std::unique_ptr<client::Client> client_;
};

absl::StatusOr<int> Up(Context& context, UpOptions options) {
  const std::stop_token stop = context.stop();
  options.cluster.listen = fmt::format("127.0.0.1:{}", options.port);
  options.cluster.metrics_listen = fmt::format("127.0.0.1:{}", options.metrics_port);
  options.cluster.dashboard_listen =
      options.no_dashboard ? "" : fmt::format("127.0.0.1:{}", options.dashboard_port);
  ESPALIER_ASSIGN_OR_RETURN(auto cluster, LocalCluster::Start(options.cluster));
  Announce(context, *cluster);
  // Whoever waits for the line would wait for ever.
  if (!context.out) return io::Unwritten();
  Describe(context, *cluster, options.cluster.workers);
  DataReport data(context, options.cluster);
  ESPALIER_RETURN_IF_ERROR(data.Connect(cluster->address()));
  while (!stop.stop_requested()) {
    std::this_thread::sleep_for(kCheckEvery);
    data.TellWhenKnown();
    if (const auto ended = cluster->Check()) {
      // A worker may be killed on purpose; without its coordinator the cluster is nothing.
      if (ended->name == "coordinator") return ended->status;
      context.err << ErrorText(ended->status, Format::kTable, context.err_terminal) << std::flush;
    }
  }
  context.err << "stopping\n" << std::flush;
  return kExitDone;
}

}  // namespace

void AddUp(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<UpOptions>();
  options->cluster.workers = 3;
  options->cluster.data_root = "data";
  options->cluster.data_dir = "espalier-data";
  CLI::App* command = parent.add_subcommand("up", kDescription);
  command->add_option("--workers", options->cluster.workers, "Number of workers, 1 to 256")
      ->check(base::Between(1, 256))
      ->capture_default_str();
  command
      ->add_option("--threads", options->cluster.threads,
                   "Training threads of each worker, 1 to 1024")
      ->check(base::Between(1, 1024))
      ->capture_default_str();
  command
      ->add_option("--data-root", options->cluster.data_root,
                   "Folder whose sub-folders are data sets")
      ->type_name("FOLDER")
      ->envname("ESPALIER_DATA")
      ->capture_default_str();
  command
      ->add_option("--data-dir", options->cluster.data_dir, "Folder for jobs, checkpoints and logs")
      ->type_name("FOLDER")
      ->capture_default_str();
  command
      ->add_option("--models", options->cluster.models,
                   "Folder of trained language models that jobs may prune")
      ->type_name("FOLDER");
  command->add_option("--port", options->port, "Port for workers and clients; 0 = a free one")
      ->check(base::Between(0, 65535))
      ->capture_default_str();
  command->add_option("--metrics-port", options->metrics_port, "Port of /metrics; 0 = a free one")
      ->check(base::Between(0, 65535))
      ->capture_default_str();
  command
      ->add_option("--dashboard-port", options->dashboard_port,
                   "Port of the dashboard, or the next free one; 0 = any free one")
      ->check(base::Between(0, 65535))
      ->capture_default_str();
  command->add_flag("--no-dashboard", options->no_dashboard, "Start no dashboard");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) { return Up(context, *options); };
  });
}

}  // namespace espalier::cli
