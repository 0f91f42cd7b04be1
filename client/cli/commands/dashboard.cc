#include "client/dashboard/dashboard.h"

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "client/cli/commands/commands.h"
#include "client/cli/exit_code.h"
#include "client/dashboard/health.h"
#include "common/base/printable.h"
#include "common/base/sleep.h"
#include "common/base/status.h"
#include "common/io/standard_output.h"
#include "fmt/format.h"

namespace espalier::cli {
namespace {

constexpr char kDescription[] = R"(Show the cluster in a browser, until Ctrl-C

Examples:
  espalier dashboard                              http://127.0.0.1:7080/
  espalier dashboard --listen 127.0.0.1:8080
  espalier --server a.example:7070 --tls-dir certs/ada dashboard

The pages show, and their buttons do, what you may by your certificate or token.
Whoever reaches them has the same rights and is not asked for a password, so
only this machine does: for others, put a proxy that asks who comes in front,
and name it with --allow-host, or say --expose. Training does not depend on it.
See docs/operations/dashboard.md.)";

constexpr auto kLookEvery = std::chrono::seconds(3600);

struct Options {
  dashboard::DashboardOptions dashboard;
  bool health_check = false;
};

absl::StatusOr<int> Run(Context& context, dashboard::DashboardOptions options) {
  const std::stop_token stop = context.stop();
  options.client = context.options.client;
  ESPALIER_ASSIGN_OR_RETURN(const auto dashboard, dashboard::Dashboard::Start(std::move(options)));
  if (context.options.format == Format::kTable) {
    context.out << fmt::format("listening address={} url={}\n", dashboard->address(),
                               dashboard->url())
                << std::flush;
  } else {
    Json json;
    json["address"] = dashboard->address();
    json["url"] = dashboard->url();
    // One line, which both languages read alike.
    context.out << ToJson(json, Layout::kLine) << std::flush;
  }
  // Whoever waits for the line would wait for ever.
  if (!context.out) return io::Unwritten();
  context.err << fmt::format("The dashboard of {}: {}\nCtrl-C ends it; jobs go on.\n",
                             base::Printable(context.options.client.server), dashboard->url())
              << std::flush;
  while (base::SleepUnlessStopped(kLookEvery, stop)) {
  }
  return kExitDone;
}

}  // namespace

void AddDashboard(CLI::App& parent, Command& chosen) {
  auto options = std::make_shared<Options>();
  CLI::App* command = parent.add_subcommand("dashboard", kDescription);
  command
      ->add_option("--listen", options->dashboard.listen,
                   "Address for browsers; with port 0 a free one, which is printed")
      ->type_name("HOST:PORT")
      ->capture_default_str();
  command->add_flag("--next-port", options->dashboard.next_port,
                    "Take the next free port when that one is in use");
  command
      ->add_option("--allow-host", options->dashboard.allow_hosts,
                   "Further name by which browsers find it, such as that of a proxy in front; may "
                   "be repeated")
      ->type_name("NAME")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_flag("--expose", options->dashboard.expose,
                    "Let other machines reach it, who then have your rights");
  command->add_flag("--health-check", options->health_check,
                    "Ask the dashboard that runs on --listen, and end: 0 when it answers");
  command->callback([&chosen, options] {
    chosen = [options](Context& context) -> absl::StatusOr<int> {
      if (!options->health_check) return Run(context, options->dashboard);
      ESPALIER_RETURN_IF_ERROR(dashboard::CheckServes(options->dashboard.listen));
      return kExitDone;
    };
  });
}

}  // namespace espalier::cli
